// Package bench compares whole commands with public tools and with physical
// bounds, as ratios of medians within one run in which all take turns, since
// machines are noisy. make bench runs it; it needs Debian's docker-registry, skopeo
// and openssl and the tools of make tools, and writes its table to build/bench.md.
// It judges nothing: docs/benchmarks.md says why a budget was not met.
//
// What can be set: SEALIFT_BENCH_ROUNDS, how often each contender runs, 3 by
// default; SEALIFT_BENCH_LARGE=1 for 10 GiB instead of 2 where memory is measured;
// TMPDIR, the disk that is written to.
package bench
