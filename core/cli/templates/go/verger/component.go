//go:build wasm

// The calls of the host, by the canonical ABI: the interface of wit/worker.wit. Yours to read and to
// change; `verger plugin pack` checks it against the interface.
package verger

import (
	"math"
	"unsafe"
)

//go:wasmimport verger:worker/store@0.1.0 query-all
func hostQueryAll(sql unsafe.Pointer, sqlLen uint32, params unsafe.Pointer, count uint32, answer unsafe.Pointer)

//go:wasmimport verger:worker/store@0.1.0 execute
func hostExecute(sql unsafe.Pointer, sqlLen uint32, params unsafe.Pointer, count uint32, answer unsafe.Pointer)

//go:wasmimport verger:worker/store@0.1.0 begin-savepoint
func hostBegin(answer unsafe.Pointer)

//go:wasmimport verger:worker/store@0.1.0 [method]savepoint.release
func hostRelease(savepoint int32, answer unsafe.Pointer)

//go:wasmimport verger:worker/store@0.1.0 [method]savepoint.rollback
func hostRollback(savepoint int32, answer unsafe.Pointer)

//go:wasmimport verger:worker/store@0.1.0 [resource-drop]savepoint
func hostDrop(savepoint int32)

//go:wasmimport verger:worker/store@0.1.0 checkpoint
func hostCheckpoint(answer unsafe.Pointer)

//go:wasmimport verger:worker/store@0.1.0 checkpoint-due
func hostCheckpointDue() int32

//go:wasmimport verger:worker/audit@0.1.0 append
func hostAppend(events unsafe.Pointer, count uint32, answer unsafe.Pointer)

//go:wasmimport verger:worker/clock@0.1.0 now
func hostNow() int64

//go:wasmimport verger:worker/events@0.1.0 publish
func hostPublish(topic unsafe.Pointer, topicLen uint32, payload unsafe.Pointer, payloadLen uint32, answer unsafe.Pointer)

//go:wasmimport verger:worker/job@0.1.0 progress
func hostProgress(done, total uint32)

//go:wasmimport verger:worker/job@0.1.0 is-cancelled
func hostIsCancelled() int32

//go:wasmimport verger:worker/job@0.1.0 attempt
func hostAttempt() uint32

//go:wasmimport verger:worker/log@0.1.0 write
func hostWrite(level int32, line unsafe.Pointer, lineLen uint32)

//go:wasmimport verger:worker/host@0.1.0 call
func hostCall(name unsafe.Pointer, nameLen uint32, request unsafe.Pointer, requestLen uint32, answer unsafe.Pointer)

//go:wasmimport verger:worker/queue@0.1.0 enqueue
func hostEnqueue(jobs unsafe.Pointer, count uint32, answer unsafe.Pointer)

//go:wasmimport verger:worker/state@0.1.0 get
func hostGet(key unsafe.Pointer, keyLen uint32, answer unsafe.Pointer)

//go:wasmimport verger:worker/state@0.1.0 set
func hostSet(key unsafe.Pointer, keyLen uint32, tag uint32, first int64, second uint32, answer unsafe.Pointer)

// Pointers have 32 bits in the interface's memory. What they point to is kept alive by `kept`, which
// the garbage collector sees and a number is not.
type text struct{ at, len uint32 }
type cell struct {
	tag   uint8
	_     [7]byte
	value [8]byte
}
type option struct {
	isSome uint32
	text   text
}
type event struct {
	action                                                        text
	outcome                                                       uint32
	organization, subjectType, subjectID, before, after, metadata option
}
type newJob struct{ worker, args, options text }

// What a call answered: whether it failed, and then code and message; else what it gives.
type answer struct {
	isError uint32
	words   [4]uint32
}

// The same, where the answer has an alignment of 8.
type stateAnswer struct {
	isError uint32
	_       uint32
	value   cell
}

var kept []any

// Where the host writes its answers. Never on a stack, which moves when it grows or shrinks.
var got answer
var gotState stateAnswer

// What the host gives is written here, and read before the next call: nothing is allocated while the
// host writes, for the garbage collector calls imports, which it must not then. The first words are for
// what is asked before Go's runtime is there.
var (
	early     [16 << 10]uint64
	earlyUsed uintptr
	room      [128 << 10]uint64
	used      uintptr
	more      [][]uint64
	isReady   bool
)

// Go's own pin of a thread: no collection begins meanwhile (go.dev/issue/67401).
//
//go:linkname procPin runtime.procPin
func procPin() int

//go:linkname procUnpin runtime.procUnpin
func procUnpin()

//go:wasmimport wasi_snapshot_preview1 adapter_monotonic_clock_set_paused
func pauseClock(isPaused bool)

//go:nosplit
func takeEarly(wants uintptr) unsafe.Pointer {
	at := earlyUsed
	if earlyUsed += (wants + 7) / 8; earlyUsed > uintptr(len(early)) {
		return nil
	}
	return unsafe.Pointer(uintptr(unsafe.Pointer(&early)) + at*8)
}

//go:wasmexport cabi_realloc
func realloc(old unsafe.Pointer, had, align, wants uintptr) unsafe.Pointer {
	if !isReady {
		return takeEarly(wants)
	}
	words := (wants + 7) / 8
	var fresh unsafe.Pointer
	if used+words < uintptr(len(room)) {
		fresh = unsafe.Pointer(&room[used])
		used += words
	} else {
		procPin()
		pauseClock(true)
		block := make([]uint64, words+1)
		more = append(more, block)
		pauseClock(false)
		procUnpin()
		fresh = unsafe.Pointer(&block[0])
	}
	if had > 0 {
		copy(unsafe.Slice((*byte)(fresh), wants), unsafe.Slice((*byte)(old), min(had, wants)))
	}
	return fresh
}

func pointer(at uint32) unsafe.Pointer { return unsafe.Pointer(uintptr(at)) }

func address(at unsafe.Pointer) uint32 { return uint32(uintptr(at)) }

func keep(value string) text {
	if value == "" {
		return text{}
	}
	kept = append(kept, value)
	return text{address(unsafe.Pointer(unsafe.StringData(value))), uint32(len(value))}
}

func (t text) String() string {
	if t.len == 0 {
		return ""
	}
	return string(unsafe.Slice((*byte)(pointer(t.at)), t.len))
}

func some(value *string) option {
	if value == nil {
		return option{}
	}
	return option{1, keep(*value)}
}

// Ends a call: what was kept for it, and what it gave, may go.
func done() {
	clear(kept)
	kept, more, used = kept[:0], nil, 0
}

func (a *answer) err() error {
	if a.isError&0xff == 0 {
		return nil
	}
	return &HostError{Code: text{a.words[0], a.words[1]}.String(), Message: text{a.words[2], a.words[3]}.String()}
}

func cells(params []any) ([]cell, error) {
	all := make([]cell, len(params))
	for at, param := range params {
		if err := all[at].set(param); err != nil {
			return nil, err
		}
	}
	kept = append(kept, all)
	return all, nil
}

func (c *cell) set(value any) error {
	put := func(tag uint8, bits uint64) {
		c.tag = tag
		*(*uint64)(unsafe.Pointer(&c.value)) = bits
	}
	value, err := plain(value)
	if err != nil {
		return err
	}
	switch value := value.(type) {
	case nil:
		c.tag = 0
	case int64:
		put(1, uint64(value))
	case float64:
		put(2, math.Float64bits(value))
	case string:
		t := keep(value)
		put(3, uint64(t.at)|uint64(t.len)<<32)
	case []byte:
		t := keep(string(value))
		put(4, uint64(t.at)|uint64(t.len)<<32)
	}
	return nil
}

func (c *cell) get() any {
	bits := *(*uint64)(unsafe.Pointer(&c.value))
	t := text{uint32(bits), uint32(bits >> 32)}
	switch c.tag {
	case 1:
		return int64(bits)
	case 2:
		return math.Float64frombits(bits)
	case 3:
		return t.String()
	case 4:
		return []byte(t.String())
	}
	return nil
}

func first(all []cell) unsafe.Pointer {
	if len(all) == 0 {
		return nil
	}
	return unsafe.Pointer(&all[0])
}

type component struct{}

func init() { host, isReady = component{}, true }

func (component) queryAll(sql string, params []any) ([]string, [][]any, error) {
	defer done()
	bound, err := cells(params)
	if err != nil {
		return nil, nil, err
	}
	said := keep(sql)
	got = answer{}
	hostQueryAll(pointer(said.at), said.len, first(bound), uint32(len(bound)), unsafe.Pointer(&got))
	if err := got.err(); err != nil {
		return nil, nil, err
	}
	columns := make([]string, got.words[1])
	for at, name := range unsafe.Slice((*text)(pointer(got.words[0])), got.words[1]) {
		columns[at] = name.String()
	}
	rows := make([][]any, got.words[3])
	for at, row := range unsafe.Slice((*text)(pointer(got.words[2])), got.words[3]) {
		rows[at] = make([]any, row.len)
		for column := range rows[at] {
			rows[at][column] = unsafe.Slice((*cell)(pointer(row.at)), row.len)[column].get()
		}
	}
	return columns, rows, nil
}

func (component) execute(sql string, params []any) (int, error) {
	defer done()
	bound, err := cells(params)
	if err != nil {
		return 0, err
	}
	said := keep(sql)
	got = answer{}
	hostExecute(pointer(said.at), said.len, first(bound), uint32(len(bound)), unsafe.Pointer(&got))
	return int(got.words[0]), got.err()
}

func (component) begin() (int32, error) {
	defer done()
	got = answer{}
	hostBegin(unsafe.Pointer(&got))
	return int32(got.words[0]), got.err()
}

func (component) end(savepoint int32, keeps bool) error {
	defer done()
	got = answer{}
	if keeps {
		hostRelease(savepoint, unsafe.Pointer(&got))
	} else {
		hostRollback(savepoint, unsafe.Pointer(&got))
	}
	hostDrop(savepoint)
	return got.err()
}

func (component) checkpoint() error {
	defer done()
	got = answer{}
	hostCheckpoint(unsafe.Pointer(&got))
	return got.err()
}

func (component) checkpointDue() bool { return hostCheckpointDue() != 0 }

func (component) audit(happened Event) error {
	defer done()
	metadata, err := optionalJSON(happened.Metadata)
	if err != nil {
		return err
	}
	before, err := optionalJSON(happened.Before)
	if err != nil {
		return err
	}
	after, err := optionalJSON(happened.After)
	if err != nil {
		return err
	}
	optional := func(value string) option {
		if value == "" {
			return option{}
		}
		return some(&value)
	}
	said := &event{
		action: keep(happened.Action), outcome: uint32(happened.Outcome),
		organization: optional(happened.Organization), subjectType: optional(happened.SubjectType),
		subjectID: optional(happened.SubjectID), before: some(before), after: some(after), metadata: some(metadata),
	}
	got = answer{}
	kept = append(kept, said)
	hostAppend(unsafe.Pointer(said), 1, unsafe.Pointer(&got))
	return got.err()
}

func (component) now() int64 { return hostNow() }

func (component) publish(topic, payload string) error {
	defer done()
	named, said := keep(topic), keep(payload)
	got = answer{}
	hostPublish(pointer(named.at), named.len, pointer(said.at), said.len, unsafe.Pointer(&got))
	return got.err()
}

func (component) progress(of, total uint32) { hostProgress(of, total) }

func (component) isCancelled() bool { return hostIsCancelled() != 0 }

func (component) attempt() int { return int(hostAttempt()) }

func (component) log(level Level, line string) {
	defer done()
	said := keep(line)
	hostWrite(int32(level), pointer(said.at), said.len)
}

func (component) call(capability, request string) (string, error) {
	defer done()
	named, said := keep(capability), keep(request)
	got = answer{}
	hostCall(pointer(named.at), named.len, pointer(said.at), said.len, unsafe.Pointer(&got))
	if err := got.err(); err != nil {
		return "", err
	}
	return text{got.words[0], got.words[1]}.String(), nil
}

func (component) enqueue(worker, args, options string) (uint64, error) {
	defer done()
	job := &newJob{keep(worker), keep(args), keep(options)}
	kept = append(kept, job)
	got = answer{}
	hostEnqueue(unsafe.Pointer(job), 1, unsafe.Pointer(&got))
	if err := got.err(); err != nil {
		return 0, err
	}
	return *(*uint64)(pointer(got.words[0])), nil
}

func (component) getState(key string) (any, error) {
	defer done()
	named := keep(key)
	gotState = stateAnswer{}
	hostGet(pointer(named.at), named.len, unsafe.Pointer(&gotState))
	if gotState.isError&0xff != 0 {
		words := (*[4]uint32)(unsafe.Pointer(&gotState.value))
		return nil, &HostError{Code: text{words[0], words[1]}.String(), Message: text{words[2], words[3]}.String()}
	}
	return gotState.value.get(), nil
}

func (component) setState(key string, value any) error {
	defer done()
	var c cell
	if err := c.set(value); err != nil {
		return err
	}
	named := keep(key)
	bits := *(*uint64)(unsafe.Pointer(&c.value))
	head, second := int64(bits), uint32(0)
	if c.tag >= 3 {
		head, second = int64(uint32(bits)), uint32(bits>>32)
	}
	got = answer{}
	hostSet(pointer(named.at), named.len, uint32(c.tag), head, second, unsafe.Pointer(&got))
	return got.err()
}

// What an export returns is read after it has returned: it stays here.
var described text
var ended [6]uint32

//go:wasmexport describe
func describe() unsafe.Pointer {
	described = keep(worker.manifest())
	return unsafe.Pointer(&described)
}

//go:wasmexport perform
func perform(
	hasScope uint32,
	hasOrganization, organization, organizationLen uint32,
	hasActor, actor, actorLen uint32,
	hasImpersonator, impersonator, impersonatorLen uint32,
	args, argsLen uint32,
) unsafe.Pointer {
	var scope *Scope
	if hasScope != 0 {
		of := func(has, at, len uint32) *string {
			if has == 0 {
				return nil
			}
			value := text{at, len}.String()
			return &value
		}
		scope = &Scope{
			Organization:      of(hasOrganization, organization, organizationLen),
			Actor:             of(hasActor, actor, actorLen),
			ImpersonatingFrom: of(hasImpersonator, impersonator, impersonatorLen),
		}
	}
	said := text{args, argsLen}.String()
	done()
	outcome := worker.perform(scope, said)
	ended = [6]uint32{uint32(outcome.tag)}
	switch outcome.tag {
	case tagDoneWith, tagCancel:
		t := keep(outcome.text)
		ended[1], ended[2] = t.at, t.len
	case tagFailed, tagDiscard:
		code, message := keep(outcome.err.Code), keep(outcome.err.Message)
		ended[1], ended[2], ended[3], ended[4] = code.at, code.len, message.at, message.len
	case tagSnooze:
		ended[1] = outcome.seconds
	}
	return unsafe.Pointer(&ended)
}
