package verger

import (
	"encoding/json"
	"strings"
	"testing"
)

func TestAnArgOfTheWrongTypeDiscardsTheJobWithItsName(t *testing.T) {
	var args Args
	if err := json.Unmarshal([]byte(`{"days": "ten", "size": 7, "none": null, "big": 9007199254740993}`), &args); err != nil {
		t.Fatal(err)
	}
	if size, err := Arg[int](args, "size"); err != nil || size != 7 {
		t.Errorf("%v, %v", size, err)
	}
	if big, err := Arg[int64](args, "big"); err != nil || big != 1<<53+1 {
		t.Errorf("%v, %v", big, err)
	}
	for _, key := range []string{"days", "none", "missing"} {
		_, err := Arg[int64](args, key)
		ended := Failed(err)
		if ended.tag != tagDiscard || ended.err.Code != "args" || !strings.Contains(ended.err.Message, "`"+key+"`") {
			t.Errorf("%s: %+v", key, ended)
		}
	}
}

func TestAPanicIsAFailedAttemptWithItsStack(t *testing.T) {
	failing := registered{run: func(*Scope, Args) Outcome { panic("no such day") }}
	ended := failing.perform(nil, "{}")
	if ended.tag != tagFailed || !strings.Contains(ended.err.Message, "no such day") || !strings.Contains(ended.err.Message, "words_test.go") {
		t.Errorf("%+v", ended)
	}
}

func TestAParameterIsBoundAsItIsOrRefused(t *testing.T) {
	type id uint16
	for _, param := range []struct{ from, to any }{
		{7, int64(7)}, {id(7), int64(7)}, {true, int64(1)}, {float32(0.5), 0.5}, {"text", "text"}, {nil, nil}, {(*string)(nil), nil},
	} {
		if got, err := plain(param.from); err != nil || got != param.to {
			t.Errorf("%v: %v, %v", param.from, got, err)
		}
	}
	for _, bad := range []any{struct{}{}, uint64(1 << 63), []int{1}} {
		if _, err := plain(bad); Code(err) != "invalid" {
			t.Errorf("%v: %v", bad, err)
		}
	}
}
