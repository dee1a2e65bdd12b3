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
	// The first signal ends the work in good order; a second one ends the process.
	context.AfterFunc(ctx, stop)
	code := cli.Main(ctx, os.Args[1:], cli.System())
	stop()
	os.Exit(code)
}
