package writer

import (
	"context"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/sombra-backup/sombra/metadata"
	"github.com/sombra-backup/sombra/vss"

	writerv1 "github.com/sombra-backup/sombra/proto/sombra/writer/v1"
)

// testComponents is the part of a document with one component.
func testComponents(t testing.TB) *metadata.WriterComponents {
	t.Helper()
	doc := metadata.NewBackupComponents()
	if err := doc.SetBackupState(metadata.BackupState{SelectComponents: true, Type: vss.BackupTypeFull, PartialFileSupport: true}); err != nil {
		t.Fatal(err)
	}
	key := metadata.WriterKey{InstanceID: testInstance, ClassID: testClass}
	c, err := doc.AddComponent(key, vss.ComponentTypeFileGroup, `Data\Left`, "db")
	if err != nil {
		t.Fatal(err)
	}
	if err := c.SetPreviousBackupStamp("stamp <1> & \"more\"\n"); err != nil {
		t.Fatal(err)
	}
	w, ok := doc.Writer(testInstance)
	if !ok {
		t.Fatal("the document has no part for the writer")
	}
	return w
}

// Changes of components are kept in four events and lost in the others
// (backup-components-document-life-cycle; VSS-REFERENCE §9.2).
func TestChangesOfComponentsTravelWhereTheyAreKept(t *testing.T) {
	change := func(_ context.Context, e *Event) error {
		c, ok := e.Components.Component(`Data\Left`, "db")
		if !ok {
			return vss.Errorf(vss.ErrObjectNotFound, "find", "component", "")
		}
		if stamp, _ := c.PreviousBackupStamp(); stamp != "stamp <1> & \"more\"\n" {
			return vss.Errorf(vss.ErrUnexpected, "compare", "stamp", "%q", stamp)
		}
		return c.SetBackupStamp("stamp 2")
	}
	for _, kind := range EventKinds() {
		if kind == EventIdentify {
			continue
		}
		t.Run(kind.String(), func(t *testing.T) {
			all := allEvents{&script{do: map[EventKind]func(context.Context, *Event) error{kind: change}}}
			_, ws := connect(t, all)
			e := &Event{SessionID: sessionA}
			if kind == EventThaw {
				if err := ws[0].Freeze(t.Context(), e); err != nil {
					t.Fatal(err)
				}
			}
			e.Components = testComponents(t)
			if err := Notify(t.Context(), ws[0], kind, e); err != nil {
				t.Fatal(err)
			}
			c, ok := e.Components.Component(`Data\Left`, "db")
			if !ok {
				t.Fatal("the component is gone")
			}
			if stamp, set := c.BackupStamp(); set != kind.KeepsComponents() || set && stamp != "stamp 2" {
				t.Errorf("backup stamp %q, set %v; kept in this event: %v", stamp, set, kind.KeepsComponents())
			}
		})
	}
}

// allEvents is a script with all optional events.
type allEvents struct{ *script }

func (s allEvents) PrepareForSnapshot(ctx context.Context, e *Event) error {
	return s.event(ctx, EventPrepareForSnapshot, e)
}
func (s allEvents) BackupComplete(ctx context.Context, e *Event) error {
	return s.event(ctx, EventBackupComplete, e)
}
func (s allEvents) PreRestore(ctx context.Context, e *Event) error {
	return s.event(ctx, EventPreRestore, e)
}
func (s allEvents) PostRestore(ctx context.Context, e *Event) error {
	return s.event(ctx, EventPostRestore, e)
}

func TestAVetoKeepsTheComponentsFailureMessage(t *testing.T) {
	s := &script{do: map[EventKind]func(context.Context, *Event) error{
		EventPrepareForBackup: func(_ context.Context, e *Event) error {
			c, _ := e.Components.Component(`Data\Left`, "db")
			if err := c.SetPrepareForBackupFailureMsg("disk on fire"); err != nil {
				return err
			}
			return vss.ErrWriterErrorOutOfResources
		},
	}}
	_, ws := connect(t, s)
	e := &Event{SessionID: sessionA, Components: testComponents(t)}
	wantCode(t, ws[0].PrepareForBackup(t.Context(), e), vss.ErrWriterErrorOutOfResources)
	c, _ := e.Components.Component(`Data\Left`, "db")
	if msg, _ := c.PrepareForBackupFailureMsg(); msg != "disk on fire" {
		t.Errorf("failure message %q", msg)
	}
}

// liar is a program of another make that answers as it likes.
type liar struct {
	writerv1.UnimplementedWritersServer
	list     *writerv1.ListResponse
	document []byte
	event    *writerv1.EventResponse
}

func (l *liar) List(context.Context, *writerv1.ListRequest) (*writerv1.ListResponse, error) {
	return l.list, nil
}
func (l *liar) Identify(context.Context, *writerv1.IdentifyRequest) (*writerv1.IdentifyResponse, error) {
	return &writerv1.IdentifyResponse{Document: l.document}, nil
}
func (l *liar) Freeze(context.Context, *writerv1.EventRequest) (*writerv1.EventResponse, error) {
	return l.event, nil
}
func (l *liar) PostSnapshot(context.Context, *writerv1.EventRequest) (*writerv1.EventResponse, error) {
	return l.event, nil
}

func visit(t *testing.T, l *liar) *Client {
	t.Helper()
	conn, file := socketPair(t)
	other, err := net.FileConn(file)
	if err != nil {
		t.Fatal(err)
	}
	// Its own bounds are wider than ours, so that ours are what is tested.
	server := grpc.NewServer(grpc.MaxSendMsgSize(4 * MaxMessage))
	writerv1.RegisterWritersServer(server, l)
	listener := &oneConn{conn: other, closed: make(chan struct{})}
	go server.Serve(listener)
	t.Cleanup(server.Stop)
	c, err := Dial(t.Context(), conn)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func oneInstance(i *writerv1.Instance) *writerv1.ListResponse {
	return &writerv1.ListResponse{Instances: []*writerv1.Instance{i}}
}

func TestProgramsThatLie(t *testing.T) {
	for _, test := range []struct {
		name string
		list *writerv1.ListResponse
		want vss.Code
	}{
		{"too many writers", &writerv1.ListResponse{Instances: slices.Repeat([]*writerv1.Instance{{}}, maxWriters+1)}, vss.ErrUnexpectedWriterError},
		{"one handle twice", &writerv1.ListResponse{Instances: []*writerv1.Instance{{Handle: 1}, {Handle: 1}}}, vss.ErrUnexpectedWriterError},
		{"bad instance id", oneInstance(&writerv1.Instance{InstanceId: "x"}), vss.ErrUnexpectedWriterError},
		{"bad class id", oneInstance(&writerv1.Instance{ClassId: strings.Repeat("x", 1<<20)}), vss.ErrUnexpectedWriterError},
		{"a list too large", oneInstance(&writerv1.Instance{InstanceName: strings.Repeat("x", MaxMessage)}), vss.ErrWriterErrorOutOfResources},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := visit(t, &liar{list: test.list}).Writers(t.Context())
			wantCode(t, err, test.want)
		})
	}

	l := &liar{list: oneInstance(&writerv1.Instance{
		Handle: 3, InstanceId: testInstance.String(),
		Description: &writerv1.Description{
			Level: 99, Stillness: 99, Weak: strings.Repeat("w", maxText+1),
			FreezeTimeout: durationpb.New(-time.Hour),
		},
	})}
	ws, err := visit(t, l).Writers(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	w := ws[0]
	if d := w.Describe(); d.Level != vss.LevelUnknown || d.Stillness != NothingHeld || d.FreezeTimeout != 0 || len(d.Weak) > maxText {
		t.Errorf("description taken as it came: %+v", d)
	}

	for name, doc := range map[string]string{
		"no document":         "",
		"no XML":              "<",
		"another document":    string(testComponents(t).Part()),
		"another instance id": strings.Replace(string(testDocument().SaveAsXML()), testInstance.String(), sessionA.String(), 1),
	} {
		l.document = []byte(doc)
		if _, err := w.Identify(t.Context()); err == nil {
			t.Errorf("%s: taken", name)
		} else {
			wantCode(t, err, vss.ErrUnexpectedWriterError)
		}
	}

	for _, test := range []struct {
		name string
		resp *writerv1.EventResponse
		want vss.Code
	}{
		{"a veto that is a success", &writerv1.EventResponse{Veto: &writerv1.Error{}}, vss.ErrWriterErrorNonRetryable},
		{"components that are no XML", &writerv1.EventResponse{Components: []byte("<")}, vss.ErrUnexpectedWriterError},
		{"a writer metadata document for components", &writerv1.EventResponse{Components: testDocument().SaveAsXML()}, vss.ErrUnexpectedWriterError},
		{"components too large", &writerv1.EventResponse{Components: make([]byte, MaxMessage)}, vss.ErrWriterErrorOutOfResources},
	} {
		t.Run(test.name, func(t *testing.T) {
			l.event = test.resp
			wantCode(t, w.PostSnapshot(t.Context(), &Event{Components: testComponents(t)}), test.want)
		})
	}
	l.event = &writerv1.EventResponse{Freeze: &writerv1.FreezeReport{Processes: make([]int32, maxProcesses+1)}}
	wantCode(t, w.Freeze(t.Context(), &Event{}), vss.ErrUnexpectedWriterError)
	l.event = &writerv1.EventResponse{Failure: &writerv1.Failure{Code: uint32(vss.ErrBadState), Message: strings.Repeat("m", 2*maxText)}}
	e := &Event{}
	if err := w.Freeze(t.Context(), e); err != nil {
		t.Fatal(err)
	}
	if e.Failure == nil || e.Failure.Code != vss.ErrWriterErrorNonRetryable || len(e.Failure.Message) > maxText {
		t.Errorf("failure taken as it came: %+v", e.Failure)
	}
	wantCode(t, w.Thaw(t.Context(), &Event{}), vss.ErrNotSupported)
}

func TestErrorsReadTheSameOnBothSides(t *testing.T) {
	for _, err := range []error{
		vss.ErrWriterErrorTimeout,
		vss.Errorf(vss.ErrWriterErrorRetryable, "Freeze", "pg", "waited %d s: %w", 3, context.DeadlineExceeded),
		context.DeadlineExceeded,
		net.ErrClosed,
	} {
		back := errorFromWire(errorToWire(err))
		if back.Error() != err.Error() || FailureCode(back) != FailureCode(err) {
			t.Errorf("%v (%v) came back as %v (%v)", err, FailureCode(err), back, FailureCode(back))
		}
	}
	if errorFromWire(errorToWire(nil)) != nil {
		t.Error("no error came back as one")
	}
}

// FuzzEvent gives the server whatever a client may send.
func FuzzEvent(f *testing.F) {
	full := requestOf(1, EventFreeze, &Event{
		SessionID: sessionA, SnapshotSetID: sessionB, Limit: time.Second,
		Snapshots: []Snapshot{{ID: sessionA, VolumeRoot: "/"}}, Open: []OpenFile{{Path: "/f", PID: 1, Command: "c"}},
	}, testComponents(f).Part())
	for _, m := range []*writerv1.EventRequest{full, {}, {Components: []byte("<a")}, {SessionId: "{"}} {
		b, err := proto.Marshal(m)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var req writerv1.EventRequest
		if proto.Unmarshal(b, &req) != nil {
			return
		}
		e, err := eventOf(&req)
		if err != nil {
			return
		}
		var fragment []byte
		if e.Components != nil {
			fragment = e.Components.Part()
		}
		again, err := eventOf(requestOf(req.GetHandle(), EventFreeze, e, fragment))
		if err != nil {
			t.Fatalf("an event that was taken is refused when sent on: %v", err)
		}
		if again.SessionID != e.SessionID || again.State != e.State || again.Limit != e.Limit ||
			len(again.Snapshots) != len(e.Snapshots) || len(again.Open) != len(e.Open) ||
			(again.Components == nil) != (e.Components == nil) {
			t.Fatalf("%+v became %+v", e, again)
		}
	})
}

// FuzzResponse gives the client whatever a program may answer.
func FuzzResponse(f *testing.F) {
	part := testComponents(f).Part()
	for _, m := range []*writerv1.EventResponse{
		{}, {Components: part}, {Veto: &writerv1.Error{Code: 1, Text: "\xff"}},
		{Freeze: &writerv1.FreezeReport{LockWait: durationpb.New(time.Second), Processes: []int32{1}}, Failure: &writerv1.Failure{Code: 5}},
	} {
		b, err := proto.MarshalOptions{AllowPartial: true}.Marshal(m)
		if err == nil {
			f.Add(b)
		}
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var resp writerv1.EventResponse
		if proto.Unmarshal(b, &resp) != nil {
			return
		}
		for _, kind := range []EventKind{EventFreeze, EventPostSnapshot} {
			e := &Event{Components: testComponents(t)}
			err := storeResponse(kind, e, &resp)
			if err != nil && FailureCode(err).Succeeded() {
				t.Fatalf("error %v has a code of success", err)
			}
			if e.Report.LockWait < 0 || e.Components == nil {
				t.Fatalf("event %+v", e)
			}
		}
	})
}
