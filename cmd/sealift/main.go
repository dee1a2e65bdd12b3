// Command sealift delivers signed applications to places without a network.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"github.com/sealift/sealift/internal/cli"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := cli.Main(ctx, os.Args[1:], cli.System())
	stop()
	os.Exit(code)
}
