package compose

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/sealift/sealift/internal/target"
)

// Check fails with a [*target.PlatformError] unless the engine runs one of the
// template's platforms, and with a [*target.PortsError] unless each address is
// free on this host or held by the instance itself. A port this process may not
// listen at is taken to be free.
func (e *Engine) Check(ctx context.Context, d target.Deployment) error {
	runs := slices.ContainsFunc(d.Template.Platforms, func(p string) bool {
		return p == e.info.Platform || strings.HasPrefix(p, e.info.Platform+"/")
	})
	if !runs {
		return &target.PlatformError{Platforms: d.Template.Platforms, Runs: e.info.Platform}
	}
	list, err := e.containers(ctx, d.Instance)
	if err != nil {
		return err
	}
	own := map[string]bool{}
	for _, c := range list {
		for _, port := range c.published() {
			own[port] = c.State.Status == "running" || own[port]
		}
	}
	var taken []target.Address
	for _, a := range d.Addresses {
		if !own[fmt.Sprintf("%d/%s", a.HostPort, a.Protocol)] && inUse(ctx, a) {
			taken = append(taken, a)
		}
	}
	if taken != nil {
		return &target.PortsError{Taken: taken}
	}
	return nil
}

func inUse(ctx context.Context, a target.Address) bool {
	var lc net.ListenConfig
	addr := ":" + strconv.Itoa(a.HostPort)
	var l io.Closer
	var err error
	if a.Protocol == "udp" {
		l, err = lc.ListenPacket(ctx, "udp", addr)
	} else {
		l, err = lc.Listen(ctx, "tcp", addr)
	}
	if err == nil {
		return l.Close() != nil
	}
	return errors.Is(err, syscall.EADDRINUSE)
}
