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

	"github.com/sealift/sealift/artifact"
)

// Status is one container of an instance, or a component without any.
type Status struct {
	Component string `json:"component"`
	// Container is the engine's id, "" when there is none.
	Container string `json:"container,omitempty"`
	// State is the engine's word, as running or exited, or missing.
	State    string `json:"state"`
	ExitCode int    `json:"exitCode"`
	// Health is healthy, unhealthy, starting or completed, or "" where the
	// template has no check; Detail says why it is not healthy.
	Health string `json:"health,omitempty"`
	Detail string `json:"detail,omitempty"`
	// Image is the reference the container was made from and Digests are those
	// under which the engine knows the image it runs.
	Image    string   `json:"image,omitempty"`
	Digests  []string `json:"digests,omitempty"`
	Restarts int      `json:"restarts"`
	// Drifted says that the container was not made from the revision's
	// definition of the component.
	Drifted bool `json:"drifted,omitempty"`
}

// Working reports whether the container is as it should be.
func (s Status) Working() bool {
	return !s.Drifted && (s.State == "running" && (s.Health == "" || s.Health == "healthy") || s.Health == "completed")
}

// Ps returns the state of each container of the instance and of each component
// that has none, sorted by component.
func (e *Engine) Ps(ctx context.Context, d Deployment) ([]Status, error) {
	list, err := e.containers(ctx, d.Instance)
	if err != nil {
		return nil, err
	}
	var all []Status
	seen := map[string]bool{}
	for _, c := range list {
		seen[c.component()] = true
		s, err := e.status(ctx, d, c)
		if err != nil {
			return nil, err
		}
		all = append(all, s)
	}
	for _, key := range d.Template.Keys() {
		if !seen[key] {
			all = append(all, Status{Component: key, State: "missing"})
		}
	}
	slices.SortStableFunc(all, func(a, b Status) int { return strings.Compare(a.Component, b.Component) })
	return all, nil
}

func (e *Engine) status(ctx context.Context, d Deployment, c container) (Status, error) {
	key := c.component()
	s := Status{
		Component: key, Container: c.ID, State: c.State.Status, ExitCode: c.State.ExitCode,
		Image: c.Config.Image, Restarts: c.RestartCount,
		Drifted: d.Definitions[key] != c.definition(),
	}
	digests, err := e.repoDigests(ctx, c.Image)
	if err != nil && ctx.Err() != nil {
		return Status{}, err
	}
	for _, ref := range digests {
		if _, digest, ok := strings.Cut(ref, "@"); ok && !slices.Contains(s.Digests, digest) {
			s.Digests = append(s.Digests, digest)
		}
	}
	component, ok := d.Template.Components[key]
	if !ok {
		return s, nil
	}
	w := watch{engine: e, d: d, key: key, component: component, condition: artifact.Healthy}
	switch {
	case component.Kind == artifact.KindJob && c.State.Status == "exited":
		s.Health = "completed"
		if c.State.ExitCode != 0 {
			s.Health, s.Detail = "unhealthy", describe(c)
		}
	case c.State.Status != "running":
		s.Detail = describe(c)
	case component.Health != nil:
		v, reason := w.judgeRunning(ctx, c)
		s.Health, s.Detail = "unhealthy", e.runner(d.Secrets).blot(reason)
		if v == ready {
			s.Health, s.Detail = "healthy", ""
		} else if h := c.health(); component.Health.Exec != nil && v == notYet && (h == nil || h.Status == "starting") {
			s.Health = "starting"
		}
	}
	return s, nil
}

// Volumes returns the names of the data volumes the engine has for an instance,
// sorted, whatever revision made them.
func (e *Engine) Volumes(ctx context.Context, instance string) ([]string, error) {
	out, err := e.engine(ctx, nil, "volume", "ls", "--quiet", "--filter", "label="+LabelInstance+"="+instance)
	if err != nil {
		return nil, fmt.Errorf("list volumes of %s: %w", instance, err)
	}
	names := strings.Fields(string(out))
	slices.Sort(names)
	return names, nil
}

// RemoveVolume removes a data volume for ever. It fails when a container uses it.
func (e *Engine) RemoveVolume(ctx context.Context, name string) error {
	_, err := e.engine(ctx, nil, "volume", "rm", name)
	return err
}

// PortsError reports published ports that are taken by something else.
type PortsError struct{ Taken []Address }

// Error lists the ports with the components that want them.
func (e *PortsError) Error() string {
	var b strings.Builder
	b.WriteString("ports of this host are in use:")
	for _, a := range e.Taken {
		fmt.Fprintf(&b, " %d/%s (wanted by components.%s.ports.%s)", a.HostPort, a.Protocol, a.Component, a.Port)
	}
	return b.String()
}

// CheckPorts fails with a [*PortsError] unless each address is free on this host
// or held by the instance itself. A port this process may not listen at is taken
// to be free.
func (e *Engine) CheckPorts(ctx context.Context, instance string, addresses []Address) error {
	list, err := e.containers(ctx, instance)
	if err != nil {
		return err
	}
	own := map[string]bool{}
	for _, c := range list {
		for _, port := range c.published() {
			own[port] = c.State.Status == "running" || own[port]
		}
	}
	var taken []Address
	for _, a := range addresses {
		if !own[fmt.Sprintf("%d/%s", a.HostPort, a.Protocol)] && inUse(ctx, a) {
			taken = append(taken, a)
		}
	}
	if taken != nil {
		return &PortsError{taken}
	}
	return nil
}

func inUse(ctx context.Context, a Address) bool {
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
