package abi

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"unicode/utf8"
)

// node is a JSON value with the place where it begins.
type node struct {
	off   int
	value any // json.Delim '{' or '[', string, json.Number, bool, nil
	keys  []member
	items []*node
}

type member struct {
	name  string
	off   int
	value *node
	used  bool
}

// depthMax bounds the nesting of manifests.
const depthMax = 32

// parseJSON reads one JSON value strictly: UTF-8, no key twice, nothing behind it. A located error is a *ManifestError.
func parseJSON(src []byte) (*node, error) {
	if !utf8.Valid(src) {
		off := 0
		for off < len(src) {
			r, n := utf8.DecodeRune(src[off:])
			if r == utf8.RuneError && n == 1 {
				break
			}
			off += n
		}
		return nil, locate(src, off, "these bytes are not UTF-8")
	}
	if err := json.Unmarshal(src, &json.RawMessage{}); err != nil { // tokens alone would let some faults pass
		off := len(src)
		if s, ok := errors.AsType[*json.SyntaxError](err); ok {
			off = max(int(s.Offset)-1, 0)
		}
		return nil, locate(src, off, "not JSON: %v", err)
	}
	d := json.NewDecoder(bytes.NewReader(src))
	d.UseNumber()
	return (&parser{src: src, d: d}).value(0)
}

type parser struct {
	src []byte
	d   *json.Decoder
}

// at is where the next token begins.
func (p *parser) at() int {
	off := int(p.d.InputOffset())
	for off < len(p.src) && bytes.IndexByte([]byte(" \t\r\n,:"), p.src[off]) >= 0 {
		off++
	}
	return off
}

func (p *parser) token() (json.Token, int, error) {
	off := p.at()
	t, err := p.d.Token()
	if err != nil {
		return nil, off, locate(p.src, off, "not JSON: %v", err)
	}
	return t, off, nil
}

func (p *parser) value(depth int) (*node, error) {
	t, off, err := p.token()
	if err != nil {
		return nil, err
	}
	n := &node{off: off, value: t}
	delim, nested := t.(json.Delim)
	if !nested {
		return n, nil
	}
	if depth == depthMax {
		return nil, locate(p.src, off, "nested deeper than %d", depthMax)
	}
	for p.d.More() {
		if delim == '[' {
			x, err := p.value(depth + 1)
			if err != nil {
				return nil, err
			}
			n.items = append(n.items, x)
			continue
		}
		if err := p.member(n, depth); err != nil {
			return nil, err
		}
	}
	_, _, err = p.token() // the closing bracket
	return n, err
}

func (p *parser) member(n *node, depth int) error {
	t, off, err := p.token()
	if err != nil {
		return err
	}
	name := t.(string) // the decoder admits nothing else as a key
	for _, m := range n.keys {
		if m.name == name {
			return locate(p.src, off, "key %q is there twice", name)
		}
	}
	x, err := p.value(depth + 1)
	if err != nil {
		return err
	}
	n.keys = append(n.keys, member{name: name, off: off, value: x})
	return nil
}

// text is the JSON text of a node.
func (n *node) text(src []byte) json.RawMessage {
	d := json.NewDecoder(bytes.NewReader(src[n.off:]))
	var raw json.RawMessage
	if d.Decode(&raw) != nil {
		return nil // it was decoded before
	}
	return raw
}

// ManifestError is a fault of a manifest with its place; line and column (bytes) count from 1.
type ManifestError struct {
	Line, Column int
	Text         string
}

func (e *ManifestError) Error() string {
	return fmt.Sprintf("manifest:%d:%d: %s", e.Line, e.Column, e.Text)
}

func locate(src []byte, off int, format string, args ...any) *ManifestError {
	before := src[:min(off, len(src))]
	line := bytes.Count(before, []byte{'\n'}) + 1
	return &ManifestError{line, len(before) - bytes.LastIndexByte(before, '\n'), fmt.Sprintf(format, args...)}
}
