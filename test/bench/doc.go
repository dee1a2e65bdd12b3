// Package bench compares whole commands with public tools and with physical
// bounds, as ratios within one run, since machines are noisy. Run it with make
// bench; it needs Debian's docker-registry and the tools of make tools.
package bench
