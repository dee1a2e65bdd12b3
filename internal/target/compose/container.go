package compose

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"
)

// container is what the engine says about one container of an instance.
type container struct {
	ID           string `json:"Id"`
	Name         string
	Image        string
	RestartCount int
	State        struct {
		Status    string
		ExitCode  int
		Error     string
		StartedAt time.Time
		Health    *engineHealth
		// Healthcheck is what podman before 4.4 calls Health.
		Healthcheck *engineHealth
	}
	Config struct {
		Image  string
		Labels map[string]string
	}
	Mounts     []struct{ Type, Name string }
	HostConfig struct {
		PortBindings map[string][]struct{ HostIP, HostPort string }
	}
	NetworkSettings struct {
		IPAddress string
		Networks  map[string]struct{ IPAddress, GlobalIPv6Address string }
	}
}

type engineHealth struct {
	Status string
	Log    []struct{ Output string }
}

func (c container) component() string { return c.Config.Labels[LabelComponent] }

// run tells the runs of a container apart.
func (c container) run() string { return c.ID + " " + c.State.StartedAt.String() }

func (c container) definition() string { return c.Config.Labels[LabelDefinition] }

func (c container) health() *engineHealth {
	if c.State.Health != nil {
		return c.State.Health
	}
	return c.State.Healthcheck
}

// mounts reports whether the container has a volume whose name starts so.
func (c container) mounts(prefix string) bool {
	for _, m := range c.Mounts {
		if m.Type == "volume" && strings.HasPrefix(m.Name, prefix) {
			return true
		}
	}
	return false
}

// address returns an address of the container on its project's network, or "".
func (c container) address() string {
	for _, name := range sortedKeys(c.NetworkSettings.Networks) {
		n := c.NetworkSettings.Networks[name]
		if n.IPAddress != "" {
			return n.IPAddress
		}
		if n.GlobalIPv6Address != "" {
			return n.GlobalIPv6Address
		}
	}
	return c.NetworkSettings.IPAddress
}

// published returns the ports of the host the container holds, as 8080/tcp.
func (c container) published() []string {
	var ports []string
	for port, bindings := range c.HostConfig.PortBindings {
		_, protocol, _ := strings.Cut(port, "/")
		for _, b := range bindings {
			ports = append(ports, b.HostPort+"/"+protocol)
		}
	}
	slices.Sort(ports)
	return slices.Compact(ports)
}

// hostAddress returns where the host reaches a published port, or "".
func (c container) hostAddress(port int, protocol string) string {
	for _, b := range c.HostConfig.PortBindings[strconv.Itoa(port)+"/"+protocol] {
		return net.JoinHostPort("127.0.0.1", b.HostPort)
	}
	return ""
}

// containers returns the containers of an instance, stopped ones included,
// sorted by name.
func (e *Engine) containers(ctx context.Context, instance string) ([]container, error) {
	var last error
	// A container may go between being listed and being looked at.
	for range 3 {
		list, err := e.inspect(ctx, instance)
		if err == nil {
			return list, nil
		}
		last = err
		if ctx.Err() != nil {
			break
		}
	}
	return nil, fmt.Errorf("list containers of %s: %w", instance, last)
}

func (e *Engine) inspect(ctx context.Context, instance string) ([]container, error) {
	out, err := e.engine(ctx, nil, "ps", "--all", "--quiet", "--no-trunc", "--filter", "label="+LabelInstance+"="+instance)
	if err != nil {
		return nil, err
	}
	ids := strings.Fields(string(out))
	if len(ids) == 0 {
		return nil, nil
	}
	out, err = e.engine(ctx, nil, append([]string{"inspect", "--type", "container"}, ids...)...)
	if err != nil {
		return nil, err
	}
	var list []container
	if err := json.Unmarshal(out, &list); err != nil {
		return nil, fmt.Errorf("decode containers: %w", err)
	}
	slices.SortFunc(list, func(a, b container) int { return strings.Compare(a.Name, b.Name) })
	return list, nil
}

// discard stops containers and removes them, never with their volumes.
func (e *Engine) discard(ctx context.Context, list []container) error {
	if len(list) == 0 {
		return nil
	}
	ids := make([]string, len(list))
	for i, c := range list {
		ids[i] = c.ID
	}
	if _, err := e.engine(ctx, nil, append([]string{"stop"}, ids...)...); err != nil {
		return err
	}
	_, err := e.engine(ctx, nil, append([]string{"rm"}, ids...)...)
	return err
}

// logs returns the last lines a container wrote, at most 20.
func (e *Engine) logs(ctx context.Context, secrets []string, id string) []string {
	const most = 20
	r := e.runner(secrets)
	var out tailBuffer
	// The container's standard error comes out at that of the command.
	err := r.stream(ctx, &out, &out, append(e.cli, "logs", "--tail", strconv.Itoa(most), id)...)
	if err != nil {
		return nil
	}
	text := strings.TrimRight(r.blot(out.String()), "\n")
	if text == "" {
		return nil
	}
	lines := strings.Split(text, "\n")
	return lines[max(0, len(lines)-most):]
}

// hasImage reports whether the engine holds the image ref, HOST/REPO@DIGEST.
func (e *Engine) hasImage(ctx context.Context, ref string) (bool, error) {
	_, err := e.engine(ctx, nil, "image", "inspect", "--format", "{{.Id}}", ref)
	var failed *CommandError
	if errors.As(err, &failed) && ctx.Err() == nil && unknownImage(failed.Stderr) {
		return false, nil
	}
	return err == nil, err
}

// unknownImage reads the engine's words: its exit status is the same for an
// image it does not know and for no answer at all.
func unknownImage(stderr string) bool {
	s := strings.ToLower(stderr)
	return strings.Contains(s, "no such image") || strings.Contains(s, "image not known") || strings.Contains(s, "no such object")
}

// repoDigests returns the digests under which the engine knows an image.
func (e *Engine) repoDigests(ctx context.Context, id string) ([]string, error) {
	out, err := e.engine(ctx, nil, "image", "inspect", "--format", "{{json .RepoDigests}}", id)
	if err != nil {
		return nil, err
	}
	var digests []string
	if err := json.Unmarshal(out, &digests); err != nil {
		return nil, fmt.Errorf("decode digests of image %s: %w", id, err)
	}
	return digests, nil
}
