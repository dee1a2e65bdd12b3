package target

import (
	"encoding/json"
	"slices"
	"strings"
)

// Blot replaces the secrets in s, which comes from an engine or quotes what it
// was given: as they are, line by line, and in the forms they have in a rendered
// file. Secrets of fewer than four bytes stay; they would blot out ordinary words
// and so give themselves away.
func Blot(s string, secrets []string) string {
	var forms []string
	for _, secret := range secrets {
		for _, text := range append(strings.Split(secret, "\n"), secret) {
			forms = append(forms, text, escaped(text), escaped(strings.ReplaceAll(text, "$", "$$")), strings.ReplaceAll(text, "$", "$$"))
		}
	}
	// Longest first: a form may be a piece of another.
	slices.SortFunc(forms, func(a, b string) int { return len(b) - len(a) })
	for _, form := range forms {
		if len(form) >= 4 {
			s = strings.ReplaceAll(s, form, "…")
		}
	}
	return s
}

// escaped returns text as it stands between the quotes of a JSON or YAML string.
func escaped(text string) string {
	quoted, err := json.Marshal(text)
	if err != nil {
		return text
	}
	return strings.Trim(string(quoted), `"`)
}
