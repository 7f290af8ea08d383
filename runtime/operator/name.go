package operator

import "github.com/seed-98920119/tocsin/runtime/event"

// Ident makes the result ids of one operator: the pipeline, the operator, the kind of result and the form (the operator's
// kind and the version of the rule by which its ids are made) come before the parts.
type Ident struct{ Pipeline, Operator, Form string }

// ID is the id of a row (kind "row") made of the given parts, at most sixteen.
func (n Ident) ID(parts ...[]byte) event.ID {
	all := [4 + 16][]byte{[]byte(n.Pipeline), []byte(n.Operator), []byte("row"), []byte(n.Form)}
	for i, p := range parts {
		all[4+i] = p // an append would put everything on the heap
	}
	return event.Hash(all[:4+len(parts)]...)
}

// Name is a row's id, which is worked out when somebody asks for it: most rows that are passed on are dropped by what reads them, and
// the hash would be most of what passing on costs. Rows with equal Names have equal ids.
type Name struct {
	of event.ID
	by *Namer // of a row that was passed on; nil: of is the id
}

// Named is the Name of a row whose id is known.
func Named(id event.ID) Name { return Name{of: id} }

// ID is the row's id.
func (n Name) ID() event.ID {
	if n.by == nil {
		return n.of
	}
	return n.by.id(n.of)
}

// Namer names the rows that one operator passes on: the only part of their ids is the id that they came with, which may be as
// little worked out as theirs will be. It does not change, and is good for many goroutines.
type Namer struct {
	prefix []byte // the parts that all its ids share, as event.Hash writes them
	before *Namer // of the rows that are passed on; nil: they have ids
	all    []*Namer
}

// namersMost is by how many ways rows may come without being named on the way: operators that pass on to one another in many ways double
// them at each step.
const namersMost = 16

// Namer returns the Namer for rows that come with ids, or by one of the given ways (Namer.Ways).
func (n Ident) Namer(ways ...*Namer) *Namer {
	root := &Namer{prefix: event.AppendParts(nil, []byte(n.Pipeline), []byte(n.Operator), []byte("row"), []byte(n.Form))}
	root.all = []*Namer{root}
	for _, way := range ways[:min(len(ways), namersMost-1)] {
		root.all = append(root.all, &Namer{prefix: root.prefix, before: way})
	}
	return root
}

// Ways are the ways by which rows may leave that it named.
func (n *Namer) Ways() []*Namer { return n.all }

// Name is the Name of a row that is passed on, which came with another.
func (n *Namer) Name(came Name) Name {
	if came.by == nil { // most
		return Name{came.of, n}
	}
	for _, way := range n.all[1:] {
		if way.before == came.by {
			return Name{came.of, way}
		}
	}
	return Name{came.ID(), n}
}

func (n *Namer) id(of event.ID) event.ID {
	if n.before != nil {
		of = n.before.id(of)
	}
	var scratch [256]byte
	return event.HashParts(event.AppendParts(append(scratch[:0], n.prefix...), of[:]))
}
