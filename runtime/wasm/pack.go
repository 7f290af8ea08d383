package wasm

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"github.com/seed-98920119/tocsin/abi"
)

// A module that interprets scripts exports the address of a slot, {u32 length, text}, as a global of this name; Pack puts a
// script there.
const (
	scriptSlot = "tocsin_script"
	scriptMax  = 64 << 10
)

// Pack makes a plugin of a module whose toolchain cannot: it adds the manifest as custom section (in place of one that is
// there), turns a start function into the export _initialize, and, for a module that interprets scripts, adds the script,
// if not nil. The result has passed the gate.
func Pack(code, manifest, script []byte) ([]byte, error) {
	sections, err := split(code)
	if err != nil {
		return nil, err
	}
	if script != nil {
		if err := sections.addScript(script); err != nil {
			return nil, err
		}
	}
	if err := sections.exportStart(); err != nil {
		return nil, err
	}
	sections = slices.DeleteFunc(sections, func(s rawSection) bool {
		return s.id == 0 && bytes.HasPrefix(s.body, appendName(nil, abi.ManifestSection))
	})
	out := append(sections, rawSection{0, append(appendName(nil, abi.ManifestSection), manifest...)}).join()
	_, err = Inspect(out)
	return out, err
}

// bare is a module without its custom sections: wazero would decode names in them, and believe what they say of their number.
func bare(code []byte) []byte {
	sections, err := split(code)
	if err != nil {
		return nil
	}
	return slices.DeleteFunc(sections, func(s rawSection) bool { return s.id == 0 }).join()
}

// rawSection is a section as it stands.
type rawSection struct {
	id   byte
	body []byte
}

type rawSections []rawSection

// join is the module of the sections.
func (s rawSections) join() []byte {
	out := bytes.Clone(magic)
	for _, x := range s {
		out = append(out, x.id)
		out = append(appendU32(out, uint32(len(x.body))), x.body...)
	}
	return out
}

func split(code []byte) (all rawSections, err error) {
	if !bytes.HasPrefix(code, magic) {
		return nil, errNoModule
	}
	r := &reader{b: code, at: len(magic), end: len(code)}
	for !r.done() {
		id := r.byte()
		if body := r.take(r.u32()); r.err == nil {
			all = append(all, rawSection{id, body})
		}
	}
	if r.err != nil {
		return nil, r.err
	}
	return all, nil
}

// get is the section with an id, or nil.
func (s rawSections) get(id byte) *rawSection {
	for i := range s {
		if s[i].id == id {
			return &s[i]
		}
	}
	return nil
}

// appendEntry adds an entry to a section that is a vector.
func (s *rawSection) appendEntry(entry []byte) error {
	r := &reader{b: s.body, end: len(s.body)}
	n := r.u32()
	if r.err != nil {
		return r.err
	}
	s.body = append(append(appendU32(nil, n+1), s.body[r.at:]...), entry...)
	return nil
}

// exportStart turns the start function into an export.
func (s *rawSections) exportStart() error {
	start, exports := s.get(8), s.get(7)
	if start == nil {
		return nil
	}
	if exports == nil || bytes.Contains(exports.body, appendName(nil, abi.ExportStart)) {
		return fmt.Errorf("it has a start function, and cannot export it as %s beside what it exports", abi.ExportStart)
	}
	if err := exports.appendEntry(append(append(appendName(nil, abi.ExportStart), 0), start.body...)); err != nil {
		return err
	}
	*s = slices.DeleteFunc(*s, func(x rawSection) bool { return x.id == 8 })
	return nil
}

// addScript adds a data segment at the module's slot.
func (s rawSections) addScript(script []byte) error {
	if len(script) > scriptMax {
		return fmt.Errorf("the script has %d bytes; at most %d", len(script), scriptMax)
	}
	at, err := s.slot()
	if err != nil {
		return err
	}
	data := s.get(11)
	if data == nil {
		return errors.New("the module has no data section to put the script into")
	}
	if count := s.get(12); count != nil {
		r := &reader{b: count.body, end: len(count.body)}
		count.body = appendU32(nil, r.u32()+1)
	}
	segment := append(appendS64([]byte{0, 0x41}, int64(at)), opEnd)
	segment = binary.LittleEndian.AppendUint32(appendU32(segment, uint32(4+len(script))), uint32(len(script)))
	return data.appendEntry(append(segment, script...))
}

// slot is the address of the slot for a script: the value of an exported global.
func (s rawSections) slot() (int32, error) {
	none := fmt.Errorf("the module takes no script: it exports no constant %s", scriptSlot)
	exports, globals := s.get(7), s.get(6)
	if exports == nil || globals == nil {
		return 0, none
	}
	m := &module{}
	m.exportSection(&reader{b: exports.body, end: len(exports.body)})
	m.globalSection(&reader{b: globals.body, end: len(globals.body)})
	for _, x := range m.exports {
		if x.name != scriptSlot || x.kind != 3 || int(x.index) >= len(m.globals) {
			continue
		}
		g := m.globals[x.index] // type, mutability, i32.const, value, end
		if len(g) < 5 || g[2] != 0x41 {
			return 0, none
		}
		r := &reader{b: g, at: 3, end: len(g)}
		return int32(r.s64(32)), nil
	}
	return 0, none
}
