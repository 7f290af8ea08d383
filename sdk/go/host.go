package tocsin

import (
	"encoding/binary"
	"math"
	"unsafe"
)

// Value is a value of a row's key: the slot of kind "value" with this id. Rows of a call must not go back.
type Value uint32

// Get is the value in buf, nil if there is none. TooSmall if buf is smaller than it.
func (s Value) Get(row int, buf []byte) ([]byte, error) {
	return found(stateGet(uint32(row), uint32(s), at(buf), size(buf)), buf)
}

// Put sets the value.
func (s Value) Put(row int, value []byte) error {
	return done(statePut(uint32(row), uint32(s), at(value), size(value)))
}

// Del deletes the value, and says whether there was one.
func (s Value) Del(row int) (bool, error) { return there(stateDel(uint32(row), uint32(s))) }

// Add adds to the value as a number, 0 if there is none, and gives the sum.
func (s Value) Add(row int, delta int64) (int64, error) {
	sum := stateAdd(uint32(row), uint32(s), delta)
	if sum == math.MinInt64 {
		return 0, Invalid
	}
	return sum, nil
}

// Int is the value as a number, as Add and PutInt leave it, and whether there is one of 8 bytes.
func (s Value) Int(row int) (v int64, ok bool, err error) {
	var buf [8]byte
	return number(stateGet(uint32(row), uint32(s), at(buf[:]), 8), &buf)
}

// PutInt sets the value to a number.
func (s Value) PutInt(row int, v int64) error {
	var buf [8]byte
	binary.LittleEndian.PutUint64(buf[:], uint64(v))
	return s.Put(row, buf[:])
}

// Map is a map of a row's key: the slot of kind "map" with this id. Its keys are bytes, and ordered as such.
type Map uint32

// Get is the value of a key in buf, nil if there is none. TooSmall if buf is smaller than it.
func (s Map) Get(row int, key, buf []byte) ([]byte, error) {
	return found(mapGet(uint32(row), uint32(s), at(key), size(key), at(buf), size(buf)), buf)
}

// Put sets the value of a key, and says whether the key is new.
func (s Map) Put(row int, key, value []byte) (fresh bool, err error) {
	n := mapPut(uint32(row), uint32(s), at(key), size(key), at(value), size(value))
	return n == 1, done(n)
}

// Del deletes a key, and says whether it was there.
func (s Map) Del(row int, key []byte) (bool, error) {
	return there(mapDel(uint32(row), uint32(s), at(key), size(key)))
}

// Int is the value of a key as a number, and whether there is one of 8 bytes.
func (s Map) Int(row int, key []byte) (v int64, ok bool, err error) {
	var buf [8]byte
	return number(mapGet(uint32(row), uint32(s), at(key), size(key), at(buf[:]), 8), &buf)
}

// PutInt sets the value of a key to a number, and says whether the key is new.
func (s Map) PutInt(row int, key []byte, v int64) (fresh bool, err error) {
	var buf [8]byte
	binary.LittleEndian.PutUint64(buf[:], uint64(v))
	return s.Put(row, key, buf[:])
}

// Count is the number of keys.
func (s Map) Count(row int) (int, error) {
	n := mapCount(uint32(row), uint32(s))
	if n < 0 {
		return 0, Code(n)
	}
	return int(n), nil
}

// Clear empties the map, and says whether there was something in it.
func (s Map) Clear(row int) (bool, error) { return there(stateDel(uint32(row), uint32(s))) }

// Next is the key behind another (nil is before the first) in buf, nil after the last. after and buf must not overlap.
func (s Map) Next(row int, after, buf []byte) ([]byte, error) {
	return found(mapNext(uint32(row), uint32(s), at(after), size(after), at(buf), size(buf)), buf)
}

// Keys calls each with the keys in order, until it answers false. Half of buf must hold a key.
func (s Map) Keys(row int, buf []byte, each func(key []byte) bool) error {
	half := len(buf) / 2
	next, spare := buf[:half:half], buf[half:]
	var last []byte
	for {
		key, err := s.Next(row, last, next)
		if key == nil || err != nil || !each(key) {
			return err
		}
		last, next, spare = key, spare, next
	}
}

// TimerSet sets the timer of a tag of a row's key, ms of event time; one that was set is replaced.
func TimerSet(row int, tag, at int64) error { return done(timerSet(uint32(row), tag, at)) }

// TimerDel deletes the timer of a tag, and says whether there was one.
func TimerDel(row int, tag int64) (bool, error) { return there(timerDel(uint32(row), tag)) }

// Table is a table of the manifest's tables, by its place.
type Table uint32

// Find is the row of a key in buf, a JSON object; nil if there is none. TooSmall if buf is smaller than it.
func (t Table) Find(key, buf []byte) ([]byte, error) {
	return found(lookup(uint32(t), at(key), size(key), at(buf), size(buf)), buf)
}

// Metric is a counter of the manifest's metrics, by its place.
type Metric uint32

// Add adds to the counter.
func (m Metric) Add(delta int64) { metric(uint32(m), delta) }

// Now is the watermark of a row, ms of event time: the only clock. The least int64 before any.
func Now(row int) int64 { return now(uint32(row)) }

// Random fills dst with bytes that depend on the pipeline, the operator and the row.
func Random(row int, dst []byte) error { return done(random(uint32(row), at(dst), size(dst))) }

// Level is how much a line concerns the operator.
type Level int32

// The levels.
const (
	Debug Level = iota
	Info
	Warning
	Error
)

// Log says a line to the operator, of at most 1 024 bytes.
func Log(level Level, text string) { logLine(int32(level), unsafe.StringData(text), uint32(len(text))) }

// fail says the text that goes with the negative answer that follows.
func fail(text string) { failText(unsafe.StringData(text), uint32(len(text))) }

func at(b []byte) *byte { return unsafe.SliceData(b) }

func size(b []byte) uint32 { return uint32(len(b)) }

func found(n int64, buf []byte) ([]byte, error) {
	switch {
	case n == int64(NotFound):
		return nil, nil
	case n < 0:
		return nil, Code(n)
	case n > int64(len(buf)):
		return nil, TooSmall
	case n == 0:
		return []byte{}, nil
	}
	return buf[:n:n], nil
}

func number(n int64, buf *[8]byte) (v int64, ok bool, err error) {
	switch {
	case n == 8:
		return int64(binary.LittleEndian.Uint64(buf[:])), true, nil
	case n < int64(NotFound):
		return 0, false, Code(n)
	}
	return 0, false, nil
}

func done(answer int32) error {
	if answer < 0 {
		return Code(answer)
	}
	return nil
}

func there(answer int32) (bool, error) {
	if answer == int32(NotFound) {
		return false, nil
	}
	return answer >= 0, done(answer)
}
