// Package real tests the sealift binary against the real world: registries,
// container engines, full disks and other people's tools, on a Debian machine as
// root.
//
// Its tests are built with the tag real, and find the binary and the example's
// images below $SEALIFT_BUILD; `make test-real` provides both. A test whose tools
// are missing is skipped and says which; with CI=true it fails instead.
package real
