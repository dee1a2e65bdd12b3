// Command web is the page of the demonstration shop: it lists the orders, takes
// new ones, and passes /api/ on to the api. It is set up by the environment
// (API_URL, required; LISTEN, default :8080) and by the file /etc/shop/web.conf,
// or the one that WEB_CONF names.
package main

import (
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"os"

	"github.com/sealift/sealift/examples/shop/internal/service"
)

// version is stamped by the linker; see examples/shop/images.
var version = "0.0.0"

func main() {
	log := service.Logger("web", version)
	if err := run(log); err != nil {
		log.Error("stopped", "error", err)
		os.Exit(1)
	}
}

func run(log *slog.Logger) error {
	raw := os.Getenv("API_URL")
	if raw == "" {
		return errors.New("API_URL is not set")
	}
	api, err := url.Parse(raw)
	if err != nil || api.Host == "" {
		return fmt.Errorf("API_URL %q is not a URL", raw)
	}
	conf, err := loadConfig(service.Env("WEB_CONF", "/etc/shop/web.conf"))
	if err != nil {
		return err
	}
	return service.Run(service.Env("LISTEN", ":8080"), newHandler(api, conf, version, log), log)
}
