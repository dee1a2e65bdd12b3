# Versions of the tools that checks and real-parts tests use, all in one place.
GOLANGCI_LINT := github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.15.0
CRANE         := github.com/google/go-containerregistry/cmd/crane@v0.22.1
ORAS          := oras.land/oras/cmd/oras@v1.3.6
REGCTL        := github.com/regclient/regclient/cmd/regctl@v0.11.7
COSIGN        := github.com/sigstore/cosign/v2/cmd/cosign@v2.6.5
COSIGN3       := github.com/sigstore/cosign/v3/cmd/cosign@v3.1.3
REGISTRY      := github.com/distribution/distribution/v3/cmd/registry@v3.1.2

VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo devel)
# The second stamp is found in a program's file, for whatever system that is.
LDFLAGS := -s -w -X github.com/sealift/sealift/internal/cli.version=$(VERSION) \
	-X github.com/sealift/sealift/internal/delivery/tool.stamp=sealift-version:$(VERSION);
TOOLS   := $(CURDIR)/.tools
export GOTOOLCHAIN = local

# The programs that media can carry, as OS-ARCH[-VARIANT].
PROGRAMS := linux-amd64 linux-arm64 linux-arm-v7 darwin-arm64 darwin-amd64 windows-amd64.exe

.PHONY: help build dist dist-check check vet lint test test-real images kernel demo bench tools clean force

help: ## show the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

build: ## build build/sealift, static and stamped
	CGO_ENABLED=0 go build -trimpath -ldflags '$(LDFLAGS)' -o build/sealift ./cmd/sealift

dist: $(PROGRAMS:%=build/dist/sealift-%) ## build the program for every platform into build/dist, with SHA256SUMS
	cd build/dist && sha256sum $(PROGRAMS:%=sealift-%) > SHA256SUMS

build/dist/sealift-%: force
	CGO_ENABLED=0 GOOS=$(call part,1) GOARCH=$(call part,2) GOARM=$(patsubst v%,%,$(call part,3)) \
		go build -trimpath -buildvcs=false -ldflags '$(LDFLAGS)' -o $@ ./cmd/sealift

part = $(word $(1),$(subst -, ,$(basename $*)))

dist-check: dist ## build them again, from a copy elsewhere and without a cache, and compare
	rm -rf build/again && mkdir -p build/again/src
	git ls-files -z | xargs -0 cp --parents -t build/again/src
	GOCACHE=$(CURDIR)/build/again/cache $(MAKE) -C build/again/src dist VERSION='$(VERSION)' PROGRAMS='$(PROGRAMS)'
	diff build/dist/SHA256SUMS build/again/src/build/dist/SHA256SUMS
	rm -rf build/again

check: vet lint test ## vet, lint, unit, script and policy tests with the race detector

vet:
	go vet ./... && go vet -tags real ./...
	CGO_ENABLED=0 GOOS=windows go vet ./internal/layout ./internal/site ./cmd/sealift
	CGO_ENABLED=0 GOOS=darwin go vet ./internal/layout ./internal/site ./cmd/sealift

lint: $(TOOLS)/golangci-lint
	$(TOOLS)/golangci-lint run --build-tags real ./...

# What is measured in memory is measured without the detector, which takes many times it.
test:
	go test -race ./...
	go test -run Memory ./internal/layout

test-real: build images kernel tools ## tests with real registries, engines and tools; Debian, as root
	PATH=$(TOOLS):$$PATH SEALIFT_BUILD=$(CURDIR)/build go test -tags real -count=1 -timeout 30m ./test/real/... ./internal/target/... ./internal/site/...

images: ## build the example's images as OCI layouts in build/images (Debian's apt, no engine)
	go run ./examples/shop/images -out build/images -cache build/debian

kernel: build/kernel ## fetch Debian's kernel for the machine that tests pull a stick out of

build/kernel:
	rm -rf $@.new && mkdir -p $@.new
	cd $@.new && apt-get download -qq "$$(apt-cache depends linux-image-$$(dpkg --print-architecture) | awk '/ Depends:/ { print $$2; exit }')"
	dpkg-deb --fsys-tarfile $@.new/*.deb | tar -x -C $@.new --wildcards './boot/vmlinuz-*' \
		$(foreach dir,block crypto drivers/scsi drivers/usb fs/fat fs/nls lib,'./lib/modules/*/kernel/$(dir)/*')
	rm $@.new/*.deb
	depmod -b $(CURDIR)/$@.new "$$(ls $@.new/lib/modules)"
	mv $@.new $@

demo: build images ## the whole delivery, step by step, on this machine (Debian, as root)
	bash examples/demo.sh

bench: build tools ## compare with public tools and with physical bounds; the table is in build/bench.md
	PATH=$(TOOLS):$$PATH SEALIFT_BUILD=$(CURDIR)/build go test -tags real -v -count=1 -run TestTable -bench . -benchtime 1x -timeout 90m ./test/bench/...

tools: $(addprefix $(TOOLS)/,crane oras regctl cosign cosign3 registry) ## install the public tools that real-parts tests use

$(TOOLS)/golangci-lint: PKG = $(GOLANGCI_LINT)
$(TOOLS)/crane: PKG = $(CRANE)
$(TOOLS)/oras: PKG = $(ORAS)
$(TOOLS)/regctl: PKG = $(REGCTL)
$(TOOLS)/cosign: PKG = $(COSIGN)
$(TOOLS)/registry: PKG = $(REGISTRY)
$(TOOLS)/cosign3: # which go install calls cosign too
	GOBIN=$@.new CGO_ENABLED=0 go install -trimpath $(COSIGN3)
	mv $@.new/cosign $@ && rmdir $@.new
$(TOOLS)/%:
	GOBIN=$(TOOLS) CGO_ENABLED=0 go install -trimpath $(PKG)

clean: ## remove what was built
	rm -rf build demo .tools
