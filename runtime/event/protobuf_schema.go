package event

import (
	"context"
	"fmt"
	"slices"

	"github.com/bufbuild/protocompile"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// protoFile is the schema of a .proto file: its messages, by the ways that lead to them.
type protoFile struct {
	file protoreflect.FileDescriptor
}

// protoName is what the file of a schema is called, since a registry does not say.
const protoName = "schema.proto"

// parseProto compiles a file from its source, with what it imports. Nothing else is read: no file system, no network.
func parseProto(text string, refs []Reference) (f *protoFile, err error) {
	defer func() { // a schema comes from outside, and the compiler is not ours
		if r := recover(); r != nil {
			f, err = nil, fmt.Errorf("it is no Protobuf: %v", r)
		}
	}()
	files := map[string]string{protoName: text}
	for _, r := range refs {
		files[r.Name] = r.Text
	}
	c := protocompile.Compiler{MaxParallelism: 1, Resolver: protocompile.WithStandardImports(&protocompile.SourceResolver{Accessor: protocompile.SourceAccessorFromMap(files)})}
	out, err := c.Compile(context.Background(), protoName)
	if err != nil {
		return nil, fmt.Errorf("it is no Protobuf: %s", brief(err))
	}
	if out[0].Messages().Len() == 0 {
		return nil, fmt.Errorf("it has no message")
	}
	return &protoFile{out[0]}, nil
}

// indexesMax is how deep messages may be declared within one another.
const indexesMax = 16

// indexesLen is how many bytes the indexes take that lead to a record's message; -1: they are none.
func indexesLen(b []byte) int {
	count, at := protowire.ConsumeVarint(b)
	n := protowire.DecodeZigZag(count)
	if at < 0 || n < 0 || n > indexesMax {
		return -1
	}
	for ; n > 0; n-- {
		_, m := protowire.ConsumeVarint(b[at:])
		if m < 0 {
			return -1
		}
		at += m
	}
	return at
}

// message finds the message that indexes lead to: 0 means the first one; none, the file's first, too.
func (f *protoFile) message(indexes []byte) (protoreflect.MessageDescriptor, error) {
	path := []uint64{0}
	if len(indexes) > 0 {
		count, at := protowire.ConsumeVarint(indexes)
		if n := protowire.DecodeZigZag(count); n > 0 {
			path = path[:0]
			for range n {
				v, m := protowire.ConsumeVarint(indexes[at:])
				at += m
				path = append(path, uint64(protowire.DecodeZigZag(v)))
			}
		}
	}
	in := f.file.Messages()
	var m protoreflect.MessageDescriptor
	for _, i := range path {
		if i >= uint64(in.Len()) {
			return nil, &SyntaxError{0, fmt.Sprintf("its schema has no message %v", path)}
		}
		m = in.Get(int(i))
		in = m.Messages()
	}
	return m, nil
}

// named finds a message by its full name, or by its name within the package.
func (f *protoFile) named(name string) (protoreflect.MessageDescriptor, error) {
	var all []string
	var found protoreflect.MessageDescriptor
	var walk func(in protoreflect.MessageDescriptors)
	walk = func(in protoreflect.MessageDescriptors) {
		for i := range in.Len() {
			m := in.Get(i)
			if m.IsMapEntry() {
				continue
			}
			full := string(m.FullName())
			all = append(all, full)
			if full == name || string(f.file.Package())+"."+name == full {
				found = m
			}
			walk(m.Messages())
		}
	}
	walk(f.file.Messages())
	if found == nil {
		return nil, fmt.Errorf("it has no message %s, but %v", name, all)
	}
	return found, nil
}

// protoCan says which declared types each kind can be.
func protoCan(f protoreflect.FieldDescriptor) leaf {
	name := f.Kind().String()
	if f.IsList() || f.IsMap() {
		return leaf{name: "repeated " + name}
	}
	switch f.Kind() {
	case protoreflect.BoolKind:
		return leaf{name, []string{"bool"}}
	case protoreflect.FloatKind, protoreflect.DoubleKind:
		return leaf{name, []string{"float", "timestamp"}}
	case protoreflect.StringKind:
		return leaf{name, []string{"string", "timestamp", "ip"}}
	case protoreflect.EnumKind, protoreflect.BytesKind:
		return leaf{name, []string{"string"}}
	case protoreflect.MessageKind, protoreflect.GroupKind:
		switch known := string(f.Message().FullName()); {
		case known == "google.protobuf.Timestamp":
			return leaf{known, []string{"string", "timestamp"}}
		case known == "google.protobuf.Duration":
			return leaf{known, []string{"string"}}
		case wrappers[known]:
			return protoCan(f.Message().Fields().ByNumber(1))
		}
		return leaf{name: "a message"}
	}
	return leaf{name, []string{"int", "float", "timestamp"}}
}

// protoAt gives the type that a path has.
func protoAt(m protoreflect.MessageDescriptor) func(path []string) []leaf {
	return func(path []string) []leaf {
		for in := m; ; {
			f := in.Fields().ByName(protoreflect.Name(path[0]))
			switch {
			case f == nil:
				return nil
			case len(path) == 1:
				return []leaf{protoCan(f)}
			case f.Message() == nil || f.IsList() || f.IsMap():
				return nil
			}
			in, path = f.Message(), path[1:]
		}
	}
}

// fieldsOf are a message's fields in the order of the file.
func fieldsOf(m protoreflect.MessageDescriptor) (out []protoreflect.FieldDescriptor) {
	for i := range m.Fields().Len() {
		out = append(out, m.Fields().Get(i))
	}
	return slices.Clip(out)
}
