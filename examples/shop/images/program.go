package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

const module = "github.com/sealift/sealift/examples/shop/"

// programUser owns nothing in the image and has no name: the number is enough.
const programUser = "65532:65532"

// programIndex builds web or api: a static binary and nothing else.
func programIndex(program, version string) func(context.Context, builder) (v1.ImageIndex, error) {
	return func(ctx context.Context, b builder) (v1.ImageIndex, error) {
		config := v1.Config{
			Entrypoint:   []string{"/" + program},
			User:         programUser,
			ExposedPorts: map[string]struct{}{"8080/tcp": {}},
			Labels: map[string]string{
				"org.opencontainers.image.title":   "shop/" + program,
				"org.opencontainers.image.version": version,
			},
		}
		return multiPlatform(b.platforms, func(platform v1.Platform) (v1.Image, error) {
			binary, err := compile(ctx, program, version, platform)
			if err != nil {
				return nil, err
			}
			return image(tree{program: {mode: 0o755, content: binary}}, config, platform, b.epoch)
		})
	}
}

// compile cross-compiles a program of the shop. What could change the bytes from
// one machine to the next is fixed: paths, build id, VCS state, C, CPU level.
func compile(ctx context.Context, program, version string, platform v1.Platform) ([]byte, error) {
	dir, err := os.MkdirTemp("", "shop-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	binary := filepath.Join(dir, program)
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-buildvcs=false",
		"-ldflags", "-s -w -buildid= -X main.version="+version, "-o", binary, module+program)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=", "GOEXPERIMENT=", "GOAMD64=v1", "GOARM64=v8.0",
		"GOOS="+platform.OS, "GOARCH="+platform.Architecture)
	if out, err := cmd.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("go build %s: %w\n%s", program, err, strings.TrimSpace(string(out)))
	}
	return os.ReadFile(binary)
}
