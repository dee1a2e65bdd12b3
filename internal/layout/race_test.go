//go:build race

package layout_test

const race = true
