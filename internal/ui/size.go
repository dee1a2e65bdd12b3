package ui

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
)

// ParseBytes reads a size as people write it: a number, which may have a point, and
// B, kB, MB, GB or TB in powers of 1000, or KiB, MiB, GiB or TiB in powers of 1024,
// in letters of either case; without a unit it is bytes. Sizes below 0 and above
// 2^62 are errors.
func ParseBytes(s string) (int64, error) {
	if m := sizeRegexp.FindStringSubmatch(strings.TrimSpace(s)); m != nil {
		value, err := strconv.ParseFloat(m[1], 64)
		scale, ok := units[strings.ToLower(m[2])]
		if n := value * scale; err == nil && ok && n < 1<<62 {
			return int64(n), nil
		}
	}
	return 0, fmt.Errorf("%q is not a size", s)
}

var sizeRegexp = regexp.MustCompile(`^([0-9]+(?:\.[0-9]+)?) ?([A-Za-z]*)$`)

var units = map[string]float64{
	"": 1, "b": 1, "k": 1e3, "kb": 1e3, "m": 1e6, "mb": 1e6, "g": 1e9, "gb": 1e9, "t": 1e12, "tb": 1e12,
	"kib": 1 << 10, "mib": 1 << 20, "gib": 1 << 30, "tib": 1 << 40,
}
