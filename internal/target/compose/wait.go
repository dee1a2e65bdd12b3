package compose

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/sealift/sealift/artifact"
	"github.com/sealift/sealift/internal/target"
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

// goal is a condition of a component that is awaited.
type goal struct {
	key       string
	condition artifact.Condition
}

// needs returns what must be before the components of a wave start, sorted.
func needs(t *artifact.Template, wave []string) []goal {
	var goals []goal
	for _, key := range wave {
		for dependency, condition := range t.Components[key].DependsOn {
			goals = append(goals, goal{dependency, condition})
		}
	}
	slices.SortFunc(goals, func(a, b goal) int {
		return cmp.Or(strings.Compare(a.key, b.key), strings.Compare(string(a.condition), string(b.condition)))
	})
	return slices.Compact(goals)
}

// ends returns what must be when all components work, sorted.
func ends(t *artifact.Template) []goal {
	var goals []goal
	for _, key := range t.Keys() {
		condition := artifact.Healthy
		if t.Components[key].Kind == artifact.KindJob {
			condition = artifact.Completed
		}
		goals = append(goals, goal{key, condition})
	}
	return goals
}

// waiter waits for components of a deployment while it is applied.
type waiter struct {
	engine *Engine
	d      target.Deployment
	report func(target.Event)
	// told holds the goals whose events were reported.
	told map[goal]target.EventType
	// seen holds, by container and start, when it was seen running first.
	seen map[string]time.Time
}

func (e *Engine) waiter(d target.Deployment, report func(target.Event)) *waiter {
	return &waiter{e, d, report, map[goal]target.EventType{}, map[string]time.Time{}}
}

// await returns when all goals have been reached, or fails with a
// [*target.UnhealthyError] about the first that cannot be or is not in time.
// However many goals there are, the engine is asked once a tick.
func (w *waiter) await(ctx context.Context, goals []goal) error {
	began := time.Now()
	ticker := time.NewTicker(pollInterval)
	defer ticker.Stop()
	for len(goals) > 0 {
		list, err := w.engine.containers(ctx, w.d.Instance)
		if err != nil {
			return err
		}
		looks := w.look(ctx, goals, list)
		if ctx.Err() != nil { // what was seen is worth nothing
			return fmt.Errorf("wait for component %s: %w", goals[0].key, context.Cause(ctx))
		}
		var open []goal
		for i, g := range goals {
			v, reason := looks[i].verdict, looks[i].reason
			if budget := w.budget(g); v == notYet && time.Since(began) > budget {
				v, reason = failed, fmt.Sprintf("not %s within %s: %s", g.condition, budget, reason)
			}
			switch v {
			case failed:
				reason = w.engine.runner(w.d.Secrets).blot(reason)
				return &target.UnhealthyError{Component: g.key, Reason: reason, LastLogs: w.lastLogs(ctx, w.of(g.key, list))}
			case ready:
				w.tell(g, target.EventReady, string(g.condition))
			case notYet:
				w.tell(g, target.EventWait, w.engine.runner(w.d.Secrets).blot(reason))
				open = append(open, g)
			}
		}
		if goals = open; len(goals) == 0 {
			return nil
		}
		select {
		case <-ctx.Done():
		case <-ticker.C:
		}
	}
	return nil
}

// tell reports an event about a goal, once until another comes.
func (w *waiter) tell(g goal, event target.EventType, message string) {
	if w.told[g] != event {
		w.told[g] = event
		w.report(target.Event{Type: event, Component: g.key, Message: message})
	}
}

// budget is how long a component has to reach a goal.
func (w *waiter) budget(g goal) time.Duration {
	if g.condition == artifact.Completed {
		return w.engine.opts.JobTimeout
	}
	const plain = time.Minute
	h := w.d.Template.Components[g.key].Health
	if h == nil || g.condition == artifact.Started {
		return plain
	}
	return h.StartPeriod.Or(0) + time.Duration(retries(h))*max(interval(h), time.Second)
}

// look is how a goal stands, with the reason why it is not reached.
type look struct {
	verdict verdict
	reason  string
}

// look judges goals by the containers there are, side by side: a health check
// that hangs must not keep the others waiting.
func (w *waiter) look(ctx context.Context, goals []goal, list []container) []look {
	for _, c := range list {
		id := c.run()
		if _, ok := w.seen[id]; !ok {
			w.seen[id] = time.Now()
		}
	}
	all := make([]look, len(goals))
	var looks errgroup.Group
	looks.SetLimit(maxLooks)
	for i, g := range goals {
		looks.Go(func() error {
			all[i] = w.judge(ctx, g, w.of(g.key, list))
			return nil
		})
	}
	_ = looks.Wait() // no look fails
	return all
}

// of returns the containers of a component as it is deployed.
func (w *waiter) of(key string, list []container) []container {
	var own []container
	for _, c := range list {
		if c.component() == key && c.definition() == w.d.Definitions[key] {
			own = append(own, c)
		}
	}
	return own
}

// judge judges a goal by the component's containers.
func (w *waiter) judge(ctx context.Context, g goal, own []container) look {
	component := w.d.Template.Components[g.key]
	if want := max(1, component.Replicas); len(own) < want {
		return look{notYet, fmt.Sprintf("%d of %d containers exist", len(own), want)}
	}
	for _, c := range own {
		if v, reason := w.judgeOne(ctx, g, component, c); v != ready {
			return look{v, reason}
		}
	}
	return look{ready, ""}
}

func (w *waiter) judgeOne(ctx context.Context, g goal, component artifact.Component, c container) (verdict, string) {
	state := c.State.Status
	switch {
	case component.Kind == artifact.KindJob && (g.condition == artifact.Completed || state == "exited"):
		return judgeJob(c)
	case state == "dead":
		return failed, "the container is dead"
	case state != "running":
		return notYet, describe(c)
	case g.condition == artifact.Started:
		return ready, ""
	case component.Health == nil && !w.settled(c):
		return notYet, "it has just started"
	case component.Health == nil:
		return ready, ""
	}
	return checked(ctx, component, c)
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

// checked judges a running container by the health check of its component, which
// has one.
func checked(ctx context.Context, component artifact.Component, c container) (verdict, string) {
	h := component.Health
	if h.Exec == nil {
		if err := probe(ctx, component, c); err != nil {
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

// settled reports whether a container without a health check has run on for long
// enough since it was started. Where the engine's clock is ahead of this one, or
// it does not say, the time counts from when it was seen first.
func (w *waiter) settled(c container) bool {
	ran := time.Since(w.seen[c.run()])
	if started := c.State.StartedAt; !started.IsZero() {
		ran = max(ran, time.Since(started))
	}
	return ran >= w.engine.opts.Settle
}

// lastLogs returns the end of the logs of the last of a component's containers.
func (w *waiter) lastLogs(ctx context.Context, own []container) []string {
	if len(own) == 0 {
		return nil
	}
	return w.engine.logs(ctx, w.d.Secrets, own[len(own)-1].ID)
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
