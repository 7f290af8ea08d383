package pipeline

import (
	"context"
	"time"

	"gopkg.in/yaml.v3"

	"github.com/seed-98920119/tocsin/runtime/kafka"
)

// onlinePatience is how long one registry is waited for.
const onlinePatience = 15 * time.Second

// CheckOnline asks the schema registries that a pipeline names, which Check has found no fault in: whether they let us in, whether the
// newest schemas of the topics fit their streams, and whether they take the schemas of the rows.
func CheckOnline(ctx context.Context, file string, src []byte, conf *Config) []Finding {
	c := &checker{file: file, src: src}
	if yaml.Unmarshal(src, &c.root) != nil || len(c.root.Content) == 0 {
		return nil // Check has said it
	}
	c.online(ctx, c.root.Content[0], conf)
	return c.found
}

// online walks to what has a registry.
func (c *checker) online(ctx context.Context, n *yaml.Node, conf *Config) {
	for i, x := range n.Content {
		if n.Kind == yaml.MappingNode && i%2 == 1 {
			at := peek(x, "schema_registry")
			if key := n.Content[i-1].Value; at != nil && (key == "kafka_records" || key == "kafka_rows") {
				asking, done := context.WithTimeout(ctx, onlinePatience)
				if key == "kafka_records" {
					c.onlineRecords(asking, x, at, conf)
				} else {
					c.onlineRows(asking, x, at, conf)
				}
				done()
				continue
			}
		}
		c.online(ctx, x, conf)
	}
}

func (c *checker) onlineRecords(ctx context.Context, n, at *yaml.Node, conf *Config) {
	in, _ := decodeKafkaRecords(substituted(n))
	for _, topic := range in.Topics {
		s, err := in.Registry.Newest(ctx, topic+"-value")
		if err != nil {
			c.at(at, "%v", err)
			return
		}
		if s == nil || conf == nil {
			continue
		}
		for i := range conf.Spec.Streams {
			stream := &conf.Spec.Streams[i]
			if stream.Format == nil || !stream.Format.Registered() || !stream.Takes(map[string]string{"topic": topic}) {
				continue
			}
			if err := stream.Format.Fits(s); err != nil {
				c.at(at, "topic %s, stream %s: %v", topic, stream.Name, err)
			}
		}
	}
}

func (c *checker) onlineRows(ctx context.Context, n, at *yaml.Node, conf *Config) {
	out, _ := decodeKafkaRows(substituted(n))
	to, err := kafka.OpenSubjects(*out.registry, out.register)
	if err == nil && conf != nil {
		var why string
		if why, err = out.compatible(ctx, to, conf.shapes); why != "" {
			c.at(at, "%s", why)
		}
	}
	if err != nil {
		c.at(at, "%v", err)
	}
}
