// Command images builds the images of the demonstration shop without a
// container engine and without pulling an image: web and api are compiled from
// this module, redis is taken out of Debian's packages. Each becomes an OCI
// image layout below -out with one multi-platform index, tagged with the image's
// version. The same sources, Go release and Debian packages give the same
// digests; times come from SOURCE_DATE_EPOCH, 0 when it is not set.
//
//	go run ./examples/shop/images -out build/images
//	go run ./examples/shop/images -out build/images -push 127.0.0.1:5000
//
// With -push nothing is built: the layouts that are there are pushed over plain
// HTTP, byte for byte.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// product is one image of the shop. Its layout is out/<name>-<tag>.
type product struct {
	name       string
	tag        string
	repository string
	build      func(context.Context, builder) (v1.ImageIndex, error)
}

func products() []product {
	list := []product{{"redis", redisTag, "library/redis", redisIndex}}
	for _, version := range []string{"1.0.0", "1.1.0"} {
		for _, program := range []string{"api", "web"} {
			list = append(list, product{"shop-" + program, version, "shop/" + program, programIndex(program, version)})
		}
	}
	return list
}

// builder is what every build is given.
type builder struct {
	platforms []v1.Platform
	epoch     time.Time // of every file and config
	debian    archive
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:], os.Stdout)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "images: error:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, stdout io.Writer) error {
	flags := flag.NewFlagSet("images", flag.ContinueOnError)
	out := flags.String("out", "build/images", "write the layouts below this `directory`")
	cache := flags.String("cache", "build/debian", "keep Debian's packages in this `directory`")
	mirror := flags.String("debian", "http://deb.debian.org", "fetch Debian's packages from this `URL`, without /debian")
	host := flags.String("push", "", "build nothing, push what is in -out to the registry at `HOST`")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if flags.NArg() > 0 {
		return fmt.Errorf("unexpected argument %q", flags.Arg(0))
	}
	if *host != "" {
		return pushAll(ctx, *out, *host, stdout)
	}
	epoch, err := sourceDate(os.Getenv("SOURCE_DATE_EPOCH"))
	if err != nil {
		return err
	}
	b := builder{
		platforms: []v1.Platform{{OS: "linux", Architecture: "amd64"}, {OS: "linux", Architecture: "arm64"}},
		epoch:     epoch,
		debian:    archive{dir: *cache, mirror: *mirror},
	}
	return buildAll(ctx, b, *out, stdout)
}

func buildAll(ctx context.Context, b builder, out string, stdout io.Writer) error {
	for _, p := range products() {
		dir := filepath.Join(out, p.name+"-"+p.tag)
		index, err := p.build(ctx, b)
		if err != nil {
			return fmt.Errorf("build %s %s: %w", p.name, p.tag, err)
		}
		digest, err := writeLayout(dir, p.tag, index)
		if err != nil {
			return fmt.Errorf("write %s: %w", dir, err)
		}
		if _, err := fmt.Fprintf(stdout, "%s  %s\n", digest, dir); err != nil {
			return err
		}
	}
	return nil
}

func pushAll(ctx context.Context, out, host string, stdout io.Writer) error {
	for _, p := range products() {
		dir := filepath.Join(out, p.name+"-"+p.tag)
		ref := fmt.Sprintf("%s/%s:%s", host, p.repository, p.tag)
		digest, err := pushLayout(ctx, dir, ref)
		if err != nil {
			return fmt.Errorf("push %s to %s: %w", dir, ref, err)
		}
		if _, err := fmt.Fprintf(stdout, "%s  %s\n", digest, ref); err != nil {
			return err
		}
	}
	return nil
}

func sourceDate(s string) (time.Time, error) {
	if s == "" {
		return time.Unix(0, 0).UTC(), nil
	}
	seconds, err := strconv.ParseInt(s, 10, 64)
	if err != nil || seconds < 0 {
		return time.Time{}, fmt.Errorf("SOURCE_DATE_EPOCH %q is not a number of seconds", s)
	}
	return time.Unix(seconds, 0).UTC(), nil
}
