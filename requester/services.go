package requester

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/sombra-backup/sombra/session"
)

// ServiceResult is what a restore did with a service of the host (R-RES-7,
// R-RES-8).
type ServiceResult struct {
	Name string `json:"name"`
	// Before is how it was: running, stopped, ...
	Before  string `json:"before,omitempty"`
	Stopped bool   `json:"stopped"`
	Started bool   `json:"started"`
	// Error is why it could not be stopped, or not be started again.
	Error string `json:"error,omitempty"`
}

// serviceRun is one service that writers name, whoever does.
type serviceRun struct {
	result ServiceResult
	why    string // why it could not be stopped
	again  bool   // it is to be started
}

// serviceOf gives what is known of a set's service; nil if its method uses none.
func (r *restore) serviceOf(s *setRun, use ServiceUse) *serviceRun {
	m := s.method()
	if m.ServiceUse() != use {
		return nil
	}
	key := strings.TrimSuffix(m.Service, ".service")
	if r.services == nil {
		r.services = map[string]*serviceRun{}
	}
	if r.services[key] == nil {
		r.services[key] = &serviceRun{result: ServiceResult{Name: m.Service}}
		r.serviceOrder = append(r.serviceOrder, r.services[key])
	}
	return r.services[key]
}

// running says why a set's service runs that was to be stopped.
func (r *restore) running(s *setRun) string {
	if v := r.serviceOf(s, ServiceStopFirst); v != nil {
		return v.why
	}
	return ""
}

// stopServices stops the services that must not run while files are restored, each
// once. In a dry run they are looked at.
func (r *restore) stopServices(ctx context.Context, t session.Services) error {
	for _, s := range r.sets {
		if s.refused != "" {
			continue
		}
		v := r.serviceOf(s, ServiceStopFirst)
		if v == nil || v.result.Before != "" || v.why != "" {
			continue
		}
		if why, err := r.mayStop(ctx, s); err != nil || why != "" {
			if err != nil {
				return err
			}
			v.why, v.result.Error = why, why
			continue
		}
		if err := r.stopService(ctx, t, v); err != nil {
			return err
		}
		if !r.req.DryRun && v.why == "" && !v.again && (s.chain == nil || s.chain.n == 0) {
			// A restore that was killed may have stopped it.
			r.warn("service %s does not run (it is %s), and is not started after the restore", v.result.Name, v.result.Before)
		}
	}
	return nil
}

func (r *restore) stopService(ctx context.Context, t session.Services, v *serviceRun) error {
	name := v.result.Name
	if r.req.DryRun {
		state, err := t.Service(ctx, name)
		if err != nil {
			v.why = err.Error()
			v.result.Error = v.why
			return ctx.Err()
		}
		v.result.Before = state.State.String()
		return nil
	}
	r.rep.Step(session.Step{Event: "StopService", Subject: name})
	before, err := t.StopService(ctx, name)
	r.rep.Step(session.Step{Event: "StopService", Subject: name, Done: true, Err: text(err)})
	v.again = before.State.Active()
	if err != nil {
		v.why = err.Error()
		v.result.Error = v.why
		return ctx.Err()
	}
	v.result.Before, v.result.Stopped = before.State.String(), v.again
	return nil
}

func text(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// mayStop says why a set's service may not be stopped: its name is from a document
// of the medium, which could name any. A running writer of the same name must name
// the same one, or the user. A writer that runs as somebody else is not believed:
// he may stop no service himself.
func (r *restore) mayStop(ctx context.Context, s *setRun) (string, error) {
	w := s.set.Component.Writer
	name := s.method().Service
	if name == "" {
		return "its writer names no service, which is an error of the writer", nil
	}
	same := func(other string) bool {
		return strings.TrimSuffix(other, ".service") == strings.TrimSuffix(name, ".service")
	}
	if slices.ContainsFunc(r.req.Services, same) {
		return "", nil
	}
	live, err := r.liveWriters(ctx)
	if err != nil {
		return "", err
	}
	for _, l := range live {
		if l.Class != w.Class || l.InstanceName != w.InstanceName || !same(l.Restore.Service) {
			continue
		}
		if !l.Info.Foreign {
			return "", nil
		}
		return fmt.Sprintf("the writer that names it runs as another user, who may not stop services; if it is to be stopped and started, say so with --allow-service %s", clip(name, 200)), nil
	}
	return fmt.Sprintf("only the backup names it, and no running writer; if it is to be stopped and started, say so with --allow-service %s", clip(name, 200)), nil
}

// startServices starts what was stopped, the last first, whatever came of the
// files, before writers get PostRestore (R-RES-7).
func (r *restore) startServices(ctx context.Context, t session.Services) {
	for _, v := range slices.Backward(r.serviceOrder) {
		if v.again {
			v.again = false
			r.startService(ctx, t, v)
		}
	}
}

func (r *restore) startService(ctx context.Context, t session.Services, v *serviceRun) {
	name := v.result.Name
	r.rep.Step(session.Step{Event: "StartService", Subject: name})
	err := t.StartService(ctx, name)
	r.rep.Step(session.Step{Event: "StartService", Subject: name, Done: true, Err: text(err)})
	if err != nil {
		v.result.Error = err.Error()
		r.warn("service %s was stopped for the restore and does not start again: %v", name, err)
		r.res.Outcome = r.res.Outcome.worse(WriterFailedAfter)
		return
	}
	v.result.Started = true
}

// restartServices stops and starts, after PostRestore, the services of the sets
// whose method has it so (R-RES-8). One that does not run is left so. In a dry run
// they are looked at.
func (r *restore) restartServices(ctx context.Context, t session.Services) error {
	for _, s := range r.sets {
		v := r.serviceOf(s, ServiceRestartAfter)
		written := s.written || r.req.DryRun && !s.settled()
		if v == nil || s.refused != "" || !written || v.result.Before != "" || v.why != "" {
			continue
		}
		why, err := r.mayStop(ctx, s)
		if err == nil && why == "" {
			err = r.stopService(ctx, t, v)
			why = v.why
		}
		if v.again {
			v.again = false
			r.startService(context.WithoutCancel(ctx), t, v)
		}
		if err != nil {
			return err
		}
		if v.why = why; why != "" {
			v.result.Error = why
			r.warn("%s: service %s could not be stopped and started again, and may go on with what it had: %s", s.set.Component.Label(), v.result.Name, why)
			r.res.Outcome = r.res.Outcome.worse(WriterFailedAfter)
		}
	}
	return nil
}
