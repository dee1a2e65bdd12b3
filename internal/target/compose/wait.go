package compose

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/sealift/sealift/artifact"
)

// pollInterval is how often a component that is awaited is looked at.
const pollInterval = 500 * time.Millisecond

// verdict is what one look at a component tells.
type verdict int

const (
	notYet verdict = iota
	ready
	failed
)

// await returns when component key fulfils condition, or fails with an
// [*UnhealthyError] when it cannot or does not in time.
func (e *Engine) await(ctx context.Context, d Deployment, key string, condition artifact.Condition, report func(Event)) error {
	w := watch{engine: e, d: d, key: key, component: d.Template.Components[key], condition: condition}
	deadline := time.Now().Add(w.budget())
	ticker := time.NewTicker(pollInterval)
	defer ticker.Stop()
	for looks := 0; ; looks++ {
		v, reason, err := w.look(ctx)
		if err != nil {
			return err
		}
		if v == notYet && time.Now().After(deadline) {
			v, reason = failed, fmt.Sprintf("not %s within %s: %s", condition, w.budget(), reason)
		}
		switch {
		case v == ready:
			report(Event{EventReady, key, string(condition)})
			return nil
		case v == failed:
			return &UnhealthyError{Component: key, Reason: e.runner(d.Secrets).blot(reason), LastLogs: w.lastLogs(ctx)}
		case looks == 0:
			report(Event{EventWait, key, reason})
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait for component %s: %w", key, context.Cause(ctx))
		case <-ticker.C:
		}
	}
}

// watch is the wait for one component.
type watch struct {
	engine    *Engine
	d         Deployment
	key       string
	component artifact.Component
	condition artifact.Condition
	last      []container
	// runs holds, by container, since when it was seen running and with how
	// many restarts.
	runs map[string]run
}

type run struct {
	since    time.Time
	restarts int
}

// budget is how long the component has.
func (w *watch) budget() time.Duration {
	if w.condition == artifact.Completed {
		return w.engine.opts.JobTimeout
	}
	const plain = time.Minute
	h := w.component.Health
	if h == nil || w.condition == artifact.Started {
		return plain
	}
	return h.StartPeriod.Or(0) + time.Duration(retries(h))*max(interval(h), time.Second)
}

// look judges the component as it is now, and says why it is not ready.
func (w *watch) look(ctx context.Context) (verdict, string, error) {
	list, err := w.engine.containers(ctx, w.d.Instance)
	if err != nil {
		return 0, "", err
	}
	w.last = w.last[:0]
	for _, c := range list {
		if c.component() == w.key && c.definition() == w.d.Definitions[w.key] {
			w.last = append(w.last, c)
		}
	}
	if want := max(1, w.component.Replicas); len(w.last) < want {
		return notYet, fmt.Sprintf("%d of %d containers exist", len(w.last), want), nil
	}
	for _, c := range w.last {
		if v, reason := w.judge(ctx, c); v != ready {
			return v, reason, nil
		}
	}
	return ready, "", nil
}

func (w *watch) judge(ctx context.Context, c container) (verdict, string) {
	state := c.State.Status
	switch {
	case w.component.Kind == artifact.KindJob && (w.condition == artifact.Completed || state == "exited"):
		return judgeJob(c)
	case state == "dead":
		return failed, "the container is dead"
	case state != "running":
		return notYet, describe(c)
	case w.condition == artifact.Started:
		return ready, ""
	}
	return w.judgeRunning(ctx, c)
}

func judgeJob(c container) (verdict, string) {
	switch {
	case c.State.Status != "exited":
		return notYet, "the job is " + c.State.Status
	case c.State.ExitCode != 0:
		return failed, describe(c)
	}
	return ready, ""
}

func (w *watch) judgeRunning(ctx context.Context, c container) (verdict, string) {
	h := w.component.Health
	switch {
	case h == nil:
		return w.settled(c)
	case h.Exec == nil:
		if err := probe(ctx, w.component, c); err != nil {
			return notYet, err.Error()
		}
		return ready, ""
	}
	health := c.health()
	switch {
	case health == nil:
		return notYet, "the engine has not checked its health yet"
	case health.Status == "healthy":
		return ready, ""
	case health.Status == "unhealthy":
		return failed, "the check " + strings.Join(h.Exec, " ") + " fails" + lastOutput(health)
	}
	return notYet, "its health is " + health.Status
}

// settled judges a component without a health check: it must run on.
func (w *watch) settled(c container) (verdict, string) {
	if w.runs == nil {
		w.runs = map[string]run{}
	}
	seen, ok := w.runs[c.ID]
	if !ok || seen.restarts != c.RestartCount {
		w.runs[c.ID] = run{time.Now(), c.RestartCount}
		return notYet, "it has just started"
	}
	if time.Since(seen.since) < w.engine.opts.Settle {
		return notYet, "it has just started"
	}
	return ready, ""
}

// lastLogs returns the end of the logs of the last container looked at.
func (w *watch) lastLogs(ctx context.Context) []string {
	if len(w.last) == 0 {
		return nil
	}
	return w.engine.logs(ctx, w.d.Secrets, w.last[len(w.last)-1].ID)
}

// describe says what became of a container that does not run.
func describe(c container) string {
	s := "the container is " + c.State.Status
	if c.State.Status == "exited" || c.State.Status == "restarting" {
		s = fmt.Sprintf("%s, its last exit status was %d", s, c.State.ExitCode)
	}
	if c.RestartCount > 0 {
		s += fmt.Sprintf(", restarted %d times", c.RestartCount)
	}
	if c.State.Error != "" {
		s += ": " + c.State.Error
	}
	return s
}

func lastOutput(h *engineHealth) string {
	if len(h.Log) == 0 {
		return ""
	}
	out := strings.TrimSpace(h.Log[len(h.Log)-1].Output)
	if out == "" {
		return ""
	}
	return fmt.Sprintf(": %.500s", out)
}
