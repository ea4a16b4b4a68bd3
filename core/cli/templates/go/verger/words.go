// Package verger has the words a worker is written in. They are yours to change.
package verger

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"runtime/debug"
)

// HostError is why a call of the host failed: a code of wit/worker.wit, and a sentence.
type HostError struct{ Code, Message string }

func (e *HostError) Error() string { return e.Message + " [" + e.Code + "]" }

// ConcernsOneRow tells whether one row's own content was refused: a sweep counts it and goes on.
func ConcernsOneRow(err error) bool {
	var host *HostError
	if !errors.As(err, &host) {
		return false
	}
	return host.Code == "constraint" || host.Code == "type" || host.Code == "row"
}

// Code is the code of an error of the host; empty for any other.
func Code(err error) string {
	var host *HostError
	if errors.As(err, &host) {
		return host.Code
	}
	return ""
}

// Scope says for whom a job runs. It serves the audit log and nothing else.
type Scope struct{ Organization, Actor, ImpersonatingFrom *string }

// AuditOutcome is how an audited action ended.
type AuditOutcome uint8

const (
	Success AuditOutcome = iota
	Failure
	Error
)

// Event is something that happened, to be written down. Leave out what is not known.
type Event struct {
	Action                               string
	Outcome                              AuditOutcome
	Organization, SubjectType, SubjectID string
	// Anything that becomes JSON; nil for nothing.
	Before, After, Metadata any
}

// Level of a line of the log.
type Level uint8

const (
	Trace Level = iota
	Debug
	Info
	Warn
	ErrorLine
)

// Row is a row of a query, by the names of its columns: nil, int64, float64, string or []byte.
type Row map[string]any

// Int is an integer cell; 0 where it is none.
func (r Row) Int(column string) int64 { number, _ := r[column].(int64); return number }

// Text is a cell as text for the audit log: empty for NULL. An integer is written in decimal.
func (r Row) Text(column string) string {
	if r[column] == nil {
		return ""
	}
	return fmt.Sprint(r[column])
}

// All gives all rows of a query, as far as one chunk (16 MiB) goes.
func All(sql string, params ...any) ([]Row, error) {
	columns, cells, err := host.queryAll(sql, params)
	if err != nil {
		return nil, err
	}
	rows := make([]Row, len(cells))
	for at, row := range cells {
		rows[at] = make(Row, len(columns))
		for place, column := range columns {
			rows[at][column] = row[place]
		}
	}
	return rows, nil
}

// One gives the first row; nil when there is none.
func One(sql string, params ...any) (Row, error) {
	rows, err := All(sql, params...)
	if err != nil || len(rows) == 0 {
		return nil, err
	}
	return rows[0], nil
}

// Execute runs one statement; the number of rows it changed.
func Execute(sql string, params ...any) (int, error) { return host.execute(sql, params) }

// Savepoint does what the function does, whole or not at all: undone when it returns an error, or
// panics.
func Savepoint(body func() error) error {
	point, err := host.begin()
	if err != nil {
		return err
	}
	isOver := false
	defer func() {
		if !isOver {
			host.end(point, false)
		}
	}()
	if err := body(); err != nil {
		isOver = true
		// Why it is undone is what matters.
		host.end(point, false)
		return err
	}
	isOver = true
	return host.end(point, true)
}

// Checkpoint commits what was done so far.
func Checkpoint() error { return host.checkpoint() }

// CheckpointDue tells whether others wait to write.
func CheckpointDue() bool { return host.checkpointDue() }

// Audit writes an event into the audit log.
func Audit(event Event) error { return host.audit(event) }

// Publish sends a message to the app once the job has committed.
func Publish(topic string, payload any) error {
	text, err := json.Marshal(payload)
	if err != nil {
		return err
	}
	return host.publish(topic, string(text))
}

// Call calls a function of the app with anything that becomes JSON, and reads its reply into `reply`.
func Call(capability string, request, reply any) error {
	text, err := json.Marshal(request)
	if err != nil {
		return err
	}
	said, err := host.call(capability, string(text))
	if err != nil || reply == nil {
		return err
	}
	return json.Unmarshal([]byte(said), reply)
}

// Enqueue puts a job into the queue, within this job's transaction. Options are those of
// queue.new-job; nil for none.
func Enqueue(worker string, args any, options map[string]any) (uint64, error) {
	text, err := json.Marshal(args)
	if err != nil {
		return 0, err
	}
	said := ""
	if len(options) > 0 {
		more, err := json.Marshal(options)
		if err != nil {
			return 0, err
		}
		said = string(more)
	}
	return host.enqueue(worker, string(text), said)
}

// GetState reads a small value that this worker keeps between its jobs; nil when there is none.
func GetState(key string) (any, error) { return host.getState(key) }

// SetState keeps one; nil forgets it.
func SetState(key string, value any) error { return host.setState(key, value) }

// Now is the host's clock: milliseconds since 1970.
func Now() int64 { return host.now() }

// Progress tells how far the work is; a total of 0 is unknown.
func Progress(done, total int) { host.progress(uint32(done), uint32(total)) }

// IsCancelled tells whether someone asked for the job to stop.
func IsCancelled() bool { return host.isCancelled() }

// Attempt is which attempt this is, from 1.
func Attempt() int { return host.attempt() }

// Log writes a line to the job's log.
func Log(level Level, format string, parts ...any) { host.log(level, fmt.Sprintf(format, parts...)) }

// Outcome is how an attempt ended.
type Outcome struct {
	tag     uint8
	text    string
	err     HostError
	seconds uint32
}

const (
	tagDone = iota
	tagDoneWith
	tagFailed
	tagDiscard
	tagSnooze
	tagCancel
)

// Done completes the job.
func Done() Outcome { return Outcome{tag: tagDone} }

// DoneWith completes the job with a result, anything that becomes JSON.
func DoneWith(result any) Outcome {
	text, err := json.Marshal(result)
	if err != nil {
		return Failed(err)
	}
	return Outcome{tag: tagDoneWith, text: string(text)}
}

// Failed undoes what was not committed, and the job is tried again. An error of the host keeps its
// code. A missing arg, or one of another type, discards the job instead.
func Failed(err error) Outcome {
	var arg *argError
	if errors.As(err, &arg) {
		return Outcome{tag: tagDiscard, err: HostError{"args", arg.Error()}}
	}
	return Outcome{tag: tagFailed, err: of(err)}
}

// Discard is as Failed, and the job is not tried again.
func Discard(err error) Outcome { return Outcome{tag: tagDiscard, err: of(err)} }

// Snooze runs the job again after so many seconds, without using up an attempt.
func Snooze(seconds int) Outcome { return Outcome{tag: tagSnooze, seconds: uint32(max(seconds, 1))} }

// Cancel ends the job as cancelled, for this reason.
func Cancel(reason string) Outcome { return Outcome{tag: tagCancel, text: reason} }

func of(err error) HostError {
	var host *HostError
	if errors.As(err, &host) {
		return HostError{host.Code, err.Error()}
	}
	return HostError{"failed", err.Error()}
}

type argError struct{ what string }

func (e *argError) Error() string { return e.what }

// Args are the args of a job, the defaults of the manifest filled in.
type Args map[string]json.RawMessage

// Arg reads one of them. The error discards the job when it is returned.
func Arg[T any](args Args, key string) (T, error) {
	var value T
	raw, isThere := args[key]
	if !isThere {
		return value, &argError{fmt.Sprintf("the arg `%s` is missing", key)}
	}
	decoder := json.NewDecoder(bytes.NewReader(raw))
	if err := decoder.Decode(&value); err != nil || string(raw) == "null" {
		return value, &argError{fmt.Sprintf("the arg `%s` has another type than it must have, %s", key, reflect.TypeFor[T]())}
	}
	return value, nil
}

type registered struct {
	manifest func() string
	run      func(*Scope, Args) Outcome
}

var worker registered

// Worker says what the component is: its manifest, anything that becomes JSON, and what performs a
// job. Called once, by an init function of the main package.
func Worker(manifest any, perform func(*Scope, Args) Outcome) {
	worker = registered{
		manifest: func() string {
			text, err := json.Marshal(manifest)
			if err != nil {
				panic(err)
			}
			return string(text)
		},
		run: perform,
	}
}

// perform performs a job. A panic is a failed attempt, with its stack.
func (w registered) perform(scope *Scope, text string) (outcome Outcome) {
	defer func() {
		if panicked := recover(); panicked != nil {
			outcome = Outcome{tag: tagFailed, err: HostError{"panic", fmt.Sprintf("%v\n%s", panicked, debug.Stack())}}
		}
	}()
	var args Args
	if err := json.Unmarshal([]byte(text), &args); err != nil {
		return Discard(&HostError{"args", err.Error()})
	}
	return w.run(scope, args)
}

// plain brings a parameter into one of the five types that a cell has.
func plain(value any) (any, error) {
	switch value := value.(type) {
	case nil, int64, float64, string, []byte:
		return value, nil
	case bool:
		if value {
			return int64(1), nil
		}
		return int64(0), nil
	case *string:
		if value == nil {
			return nil, nil
		}
		return *value, nil
	}
	of := reflect.ValueOf(value)
	switch {
	case of.CanInt():
		return of.Int(), nil
	case of.CanUint() && of.Uint() <= 1<<63-1:
		return int64(of.Uint()), nil
	case of.CanFloat():
		return of.Float(), nil
	}
	return nil, &HostError{"invalid", fmt.Sprintf("a parameter of the type %T cannot be bound: use an integer, a float, a string, []byte or nil", value)}
}

func optionalJSON(value any) (*string, error) {
	if value == nil {
		return nil, nil
	}
	text, err := json.Marshal(value)
	said := string(text)
	return &said, err
}

// What the words stand on: the host in a component, another in a test.
type calls interface {
	queryAll(sql string, params []any) ([]string, [][]any, error)
	execute(sql string, params []any) (int, error)
	begin() (int32, error)
	end(savepoint int32, keeps bool) error
	checkpoint() error
	checkpointDue() bool
	audit(event Event) error
	now() int64
	publish(topic, payload string) error
	progress(done, total uint32)
	isCancelled() bool
	attempt() int
	log(level Level, line string)
	call(capability, request string) (string, error)
	enqueue(worker, args, options string) (uint64, error)
	getState(key string) (any, error)
	setState(key string, value any) error
}

var host calls
