// Command api keeps the orders of the demonstration shop in Redis and serves
// them as JSON. It is set up by the environment: REDIS_URL
// (redis://:password@host:port, required) and LISTEN (default :8080).
package main

import (
	"errors"
	"log/slog"
	"os"

	"github.com/sealift/sealift/examples/shop/internal/redis"
	"github.com/sealift/sealift/examples/shop/internal/service"
)

// version is stamped by the linker; see examples/shop/images.
var version = "0.0.0"

func main() {
	log := service.Logger("api", version)
	if err := run(log); err != nil {
		log.Error("stopped", "error", err)
		os.Exit(1)
	}
}

func run(log *slog.Logger) error {
	url := os.Getenv("REDIS_URL")
	if url == "" {
		return errors.New("REDIS_URL is not set")
	}
	client, err := redis.New(url)
	if err != nil {
		return err
	}
	err = service.Run(service.Env("LISTEN", ":8080"), newHandler(client, version, log), log)
	return errors.Join(err, client.Close())
}
