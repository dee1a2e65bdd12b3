package test

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
)

// TestThreats compares docs/threats.md with the table of attacks: every row is one, with
// the exit codes and the words that are declared there.
func TestThreats(t *testing.T) {
	t.Parallel()
	data, err := os.ReadFile("../docs/threats.md")
	check(t, err)
	declared := map[string]attack{}
	for _, a := range attacks[1:] { // the first is none
		if _, twice := declared[a.name]; twice {
			t.Errorf("two attacks are called %q", a.name)
		}
		declared[a.name] = a
	}
	for _, name := range threatsIn(string(data), func(name, exit, words string) {
		a, is := declared[name]
		if !is {
			return
		}
		if codes := a.codes(); !sameWords(exit, codes) {
			t.Errorf("%s: exit codes %q in the document, want %v", name, exit, codes)
		}
		if !slices.ContainsFunc(commands, func(c command) bool { return strings.Contains(a.want[c].says, words) }) {
			t.Errorf("%s: nothing says %q", name, words)
		}
	}) {
		if _, is := declared[name]; !is {
			t.Errorf("docs/threats.md has %q, which is no attack of the table, or is there twice", name)
		}
		delete(declared, name)
	}
	for name := range declared {
		t.Errorf("docs/threats.md has no row %q", name)
	}
}

// threatsIn reads the rows of the document's table.
func threatsIn(text string, row func(name, exit, words string)) (names []string) {
	_, table, _ := strings.Cut(text, "|---|---|---|---|\n")
	for line := range strings.Lines(table) {
		cells := strings.Split(strings.Trim(strings.TrimSpace(line), "|"), " |")
		if len(cells) < 4 {
			break
		}
		for i := range cells {
			cells[i] = strings.TrimSpace(cells[i])
		}
		names = append(names, cells[0])
		row(cells[0], cells[2], cells[3])
	}
	return names
}

// codes are the exit codes of the commands that come upon an attack; one that installs
// what is fine counts as 0, and a registry that answers with an error has none.
func (a attack) codes() (codes []string) {
	for _, c := range commands {
		if want := a.want[c]; want.verdict != apart && want.verdict != withheld {
			codes = append(codes, fmt.Sprint(exits[want.verdict]))
		}
	}
	slices.Sort(codes)
	return slices.Compact(codes)
}

// sameWords compares a list in a document with one here, in any order.
func sameWords(list string, want []string) bool {
	got := strings.Split(list, ", ")
	slices.Sort(got)
	return slices.Equal(got, want)
}
