package ui

import (
	"context"
	"log/slog"
	"strings"
)

// Handler returns a slog handler that shows warnings and errors to the person,
// one line each.
func (p *Printer) Handler() slog.Handler { return handler{printer: p} }

type handler struct {
	printer *Printer
	group   string
	attrs   string // what With added, as it is shown
}

func (handler) Enabled(_ context.Context, level slog.Level) bool { return level >= slog.LevelWarn }

func (h handler) Handle(_ context.Context, r slog.Record) error {
	text := strings.Builder{}
	text.WriteString(r.Message + h.attrs)
	r.Attrs(func(a slog.Attr) bool {
		text.WriteString(" " + h.group + a.String())
		return true
	})
	h.printer.Warn("%s", text.String())
	return nil
}

func (h handler) WithAttrs(attrs []slog.Attr) slog.Handler {
	for _, a := range attrs {
		h.attrs += " " + h.group + a.String()
	}
	return h
}

func (h handler) WithGroup(name string) slog.Handler {
	if name != "" {
		h.group += name + "."
	}
	return h
}
