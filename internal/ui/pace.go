package ui

import (
	"slices"
	"time"
)

// A rate is that of the last while, not since the start: what was fast an hour ago
// says nothing about the hour to come.
const (
	paceWindow = 10 * time.Second
	paceLeast  = 500 * time.Millisecond // what is too short says nothing either
)

// pace is how fast a count has grown lately.
type pace struct {
	samples []sample // the first is the last one outside of the window
}

type sample struct {
	at    time.Time
	count int64
}

// rate notes the count at a time, never before the last, and returns how much it grew
// a second; < 0 while it is too early to tell.
func (p *pace) rate(now time.Time, count int64) float64 {
	p.samples = append(p.samples, sample{now, count})
	old := 0
	for old+1 < len(p.samples) && now.Sub(p.samples[old+1].at) >= paceWindow {
		old++
	}
	p.samples = slices.Delete(p.samples, 0, old)
	past := now.Sub(p.samples[0].at)
	if past < paceLeast {
		return -1
	}
	return float64(count-p.samples[0].count) / past.Seconds()
}
