//go:build !linux && !darwin && !windows

package layout

// statLimits knows nothing on this platform.
func statLimits(string) (Limits, error) { return Limits{}, nil }
