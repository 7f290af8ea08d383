package abi

import (
	"slices"
	"strings"
)

// Write is a column that the module gives: of a map one of its rows, of an aggregate its result.
type Write struct {
	Path string // its name
	Type Type
}

// Aggregate is what a module of the role aggregate keeps of rows: StateSize bytes, which only it can read. Version is that of
// their layout: states of another one are not given to it.
type Aggregate struct{ StateSize, Version int }

// Caps of the roles.
const (
	writesMax    = 64
	StateSizeMax = 4096
)

// Role is the one role of the module.
func (m *Manifest) Role() Role { return m.Roles[0] }

var roles = []Role{RoleDetect, RoleFilter, RoleMap, RoleAggregate}

func (r *reader) roles(m *Manifest, n *node) {
	r.each(n, "roles", 4, func(x *node) {
		role := Role(r.text(x, "a role", 32))
		if !slices.Contains(roles, role) {
			r.wrong(x.off, "there is no role %q; there are detect, filter, map and aggregate", string(role))
		}
		m.Roles = append(m.Roles, role)
	})
	if r.err == nil && n != nil && len(m.Roles) != 1 {
		r.wrong(n.off, "roles must name exactly one role")
	}
}

// role reads what belongs to a role and refuses what belongs to others.
func (r *reader) role(m *Manifest, n *node) {
	if len(m.Roles) != 1 {
		return // which was said
	}
	role := m.Role()
	writes, aggregate := n.get("writes"), n.get("aggregate")
	if writes != nil && writes.value == nil { // null
		writes = nil
	}
	r.each(writes, "writes", writesMax, func(x *node) { r.write(m, x) })
	switch x := n.get("rules"); {
	case role == RoleDetect && len(m.Rules) == 0:
		r.wrong(n.off, "a module that detects needs rules: at least one")
	case role != RoleDetect && x != nil:
		r.wrong(x.off, "rules are what a module that detects reports; one with the role %s has none", role)
	}
	switch {
	case role == RoleAggregate && m.Keyed:
		r.wrong(n.get("key_by").off, "an aggregate keeps nothing but its states, which the host gives to it; it has no key_by, state and timers")
	case role != RoleDetect && m.State.Timers > 0:
		r.wrong(n.get("timers").off, "a timer has no row that could pass or get columns; one with the role %s has state and no timers", role)
	}
	switch {
	case role == RoleMap && len(m.Writes) == 0:
		r.wrong(n.off, "a map needs writes, the columns that it gives: at least one")
	case role == RoleAggregate && len(m.Writes) != 1:
		r.wrong(n.off, "an aggregate needs writes with its result: exactly one column; it has %d", len(m.Writes))
	case role != RoleMap && role != RoleAggregate && len(m.Writes) > 0:
		r.wrong(writes.off, "writes are columns of a map or an aggregate; a module with the role %s has none", role)
	}
	if role == RoleAggregate && len(m.Reads) == 0 {
		r.wrong(n.off, "an aggregate needs reads, its arguments: at least one")
	}
	r.aggregate(m, n, aggregate)
}

func (r *reader) write(m *Manifest, n *node) {
	if !r.object(n, "an entry of writes") {
		return
	}
	var w Write
	if x := r.need(n, "path", "the name of the column"); x != nil {
		if w.Path = r.text(x, "path", 512); w.Path == "" || strings.ContainsAny(w.Path, "\x00\n\r") {
			r.wrong(x.off, "path must be the name of a column; it is %q", w.Path)
		}
		if slices.ContainsFunc(m.Writes, func(o Write) bool { return o.Path == w.Path }) {
			r.wrong(x.off, "%s is written twice", w.Path)
		}
	}
	w.Type = r.columnType(n)
	r.done(n, "an entry of writes")
	m.Writes = append(m.Writes, w)
}

// aggregate reads what an aggregate keeps; n is the manifest.
func (r *reader) aggregate(m *Manifest, n, x *node) {
	empty := x == nil || x.value == nil
	switch {
	case m.Role() == RoleAggregate && empty:
		r.wrong(n.off, `an aggregate needs aggregate, the size of what it keeps: {"state_size": 64}`)
	case empty:
	case m.Role() != RoleAggregate:
		r.wrong(x.off, "aggregate is for modules with the role aggregate; this one has the role %s", m.Role())
	case r.object(x, "aggregate"):
		m.Aggregate = &Aggregate{Version: 1}
		m.Aggregate.StateSize = int(r.int(r.need(x, "state_size", "bytes, from 1 to 4096"), "state_size", 1, StateSizeMax))
		if v := x.get("version"); v != nil {
			m.Aggregate.Version = int(r.int(v, "version", 1, 1<<30))
		}
		r.done(x, "aggregate")
	}
}

// columnType reads the type of a column that is read or written.
func (r *reader) columnType(n *node) (t Type) {
	if x := r.need(n, "type", "such as utf8"); x != nil {
		name := r.text(x, "type", 32)
		if t = typeNames[name]; t == 0 || t == FixedBinary || t == Binary || t >= ListUTF8 {
			r.wrong(x.off, "type must be bool, i32, i64, u32, u64, f64, utf8, timestamp_ms or ip; it is %q", name)
		}
	}
	return t
}
