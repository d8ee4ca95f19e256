package middleware

import (
	"errors"
	"fmt"
	"strings"
	"sync"

	"github.com/expr-lang/expr/ast"
	"github.com/expr-lang/expr/file"
	"github.com/expr-lang/expr/parser"
	"github.com/tidwall/gjson"

	"sluice/broker"
)

// Expressions decide which messages a subscriber wants (docs/high-frequency.md). They come from
// strangers, so they are small, and there is nothing in the language that could loop, call, build or
// fail: evaluating one looks once at each of its nodes and, for each field of the payload that it names, once at the payload.
//
// The grammar and its parser are expr-lang/expr's, which is well kept and fuzzed. Its compiler and virtual
// machine are not used: they have calls, closures and arithmetic, which would have to be forbidden again, they
// fail where types do not match, and they need the whole payload decoded. What the parser returns is admitted
// node by node and becomes Go closures. google/cel-go bounds the cost of an expression too, but it wants
// the types known beforehand and brings ANTLR and Protocol Buffers along.

const (
	maxExpression = 512 // bytes
	maxNodes      = 64
	maxFields     = 8 // different fields of the payload
)

// expression is a compiled one. It may be used concurrently.
type expression struct {
	test   func(*subject) value
	fields []string // gjson paths; "" is the payload itself

	subjects sync.Pool
}

// subject is the message that an expression is about.
type subject struct {
	message *broker.Message
	fields  [maxFields]value
}

// value is what a part of an expression is worth. A field that the payload does not have is nothing.
type value struct {
	kind kind
	text string
	num  float64
}

type kind uint8

const (
	nothing kind = iota // also JSON null
	truth               // num is 1 or 0
	number
	text
	structure // a JSON object or array: it equals nothing
)

func boolean(b bool) value {
	if b {
		return value{kind: truth, num: 1}
	}
	return value{kind: truth}
}

func (v value) isTrue() bool { return v.kind == truth && v.num == 1 }

func (v value) equals(w value) bool {
	return v.kind == w.kind && v.kind != structure && v.num == w.num && v.text == w.text
}

// match reports whether the expression is true for m. What is neither true nor false is not true.
func (e *expression) match(m *broker.Message) bool {
	s, _ := e.subjects.Get().(*subject)
	if s == nil {
		s = new(subject)
	}
	s.message = m
	valid := len(e.fields) > 0 && gjson.ValidBytes(m.Data)
	for i, path := range e.fields {
		if s.fields[i] = (value{}); valid {
			s.fields[i] = field(m.Data, path)
		}
	}
	yes := e.test(s).isTrue()
	*s = subject{}
	e.subjects.Put(s)
	return yes
}

func field(data []byte, path string) value {
	var r gjson.Result
	if path == "" {
		r = gjson.ParseBytes(data)
	} else {
		r = gjson.GetBytes(data, path)
	}
	switch r.Type {
	case gjson.True, gjson.False:
		return boolean(r.Type == gjson.True)
	case gjson.Number:
		return value{kind: number, num: r.Num}
	case gjson.String:
		return value{kind: text, text: r.Str}
	case gjson.JSON:
		return value{kind: structure}
	}
	return value{}
}

// compile makes an expression of a text. The error says what is wrong, where, and what to write instead.
func compile(source string) (*expression, error) {
	tree, err := parser.Parse(source)
	if err != nil {
		var e *file.Error
		if errors.As(err, &e) {
			return nil, fmt.Errorf("%s at character %d", e.Message, e.Column+1)
		}
		return nil, errors.New(strings.SplitN(err.Error(), "\n", 2)[0])
	}
	c := compiler{out: &expression{}}
	test, err := c.node(tree.Node)
	if err != nil {
		return nil, err
	}
	c.out.test = test
	return c.out, nil
}

type compiler struct {
	out   *expression
	nodes int
}

func wrong(n ast.Node, format string, args ...any) error {
	return fmt.Errorf("%s at character %d", fmt.Sprintf(format, args...), n.Location().From+1)
}

type evaluate = func(*subject) value

func (c *compiler) node(n ast.Node) (evaluate, error) {
	if c.nodes++; c.nodes > maxNodes {
		return nil, fmt.Errorf("it has more than %d parts; make it simpler", maxNodes)
	}
	switch n := n.(type) {
	case *ast.NilNode:
		return constant(value{}), nil
	case *ast.BoolNode:
		return constant(boolean(n.Value)), nil
	case *ast.IntegerNode:
		return constant(value{kind: number, num: float64(n.Value)}), nil
	case *ast.FloatNode:
		return constant(value{kind: number, num: n.Value}), nil
	case *ast.StringNode:
		return constant(value{kind: text, text: n.Value}), nil
	case *ast.IdentifierNode:
		return c.identifier(n)
	case *ast.ChainNode:
		return c.node(n.Node)
	case *ast.MemberNode:
		return c.member(n)
	case *ast.UnaryNode:
		return c.unary(n)
	case *ast.BinaryNode:
		return c.binary(n)
	}
	return nil, wrong(n, "%s is not part of this language; there are comparisons, and, or, not, in, contains, startsWith and endsWith", shorten(n.String()))
}

func shorten(s string) string {
	if len(s) > 40 {
		return s[:40] + "…"
	}
	return s
}

func constant(v value) evaluate { return func(*subject) value { return v } }

func (c *compiler) identifier(n *ast.IdentifierNode) (evaluate, error) {
	switch n.Value {
	case "event":
		return func(s *subject) value {
			if s.message.Event == "" {
				return value{kind: text, text: "message"}
			}
			return value{kind: text, text: s.message.Event}
		}, nil
	case "key":
		return func(s *subject) value {
			if s.message.Key == "" {
				return value{}
			}
			return value{kind: text, text: s.message.Key}
		}, nil
	case "channel":
		return func(s *subject) value { return value{kind: text, text: s.message.Channel} }, nil
	case "text":
		return func(s *subject) value { return value{kind: text, text: string(s.message.Data)} }, nil
	case "data":
		return c.field(n, "")
	}
	return nil, wrong(n, "unknown name %q; there are event, key, channel, text and data", shorten(n.Value))
}

// member reads data.a.b, data["a b"] and data.a[0].
func (c *compiler) member(n *ast.MemberNode) (evaluate, error) {
	var path []string
	at := ast.Node(n)
	for {
		m, ok := at.(*ast.MemberNode)
		if !ok {
			break
		}
		switch p := m.Property.(type) {
		case *ast.StringNode:
			path = append(path, gjson.Escape(p.Value))
		case *ast.IntegerNode:
			if p.Value < 0 {
				return nil, wrong(n, "an index can't be negative")
			}
			path = append(path, fmt.Sprint(p.Value))
		default:
			return nil, wrong(n, "write a field's name or a number in brackets")
		}
		at = m.Node
	}
	if id, ok := at.(*ast.IdentifierNode); !ok || id.Value != "data" {
		return nil, wrong(n, "only data has fields")
	}
	for i, j := 0, len(path)-1; i < j; i, j = i+1, j-1 {
		path[i], path[j] = path[j], path[i]
	}
	for _, p := range path {
		if p == "" {
			return nil, wrong(n, "a field's name can't be empty")
		}
	}
	return c.field(n, strings.Join(path, "."))
}

func (c *compiler) field(n ast.Node, path string) (evaluate, error) {
	i := 0
	for i < len(c.out.fields) && c.out.fields[i] != path {
		i++
	}
	if i == len(c.out.fields) {
		if i == maxFields {
			return nil, wrong(n, "more than %d different fields of data", maxFields)
		}
		c.out.fields = append(c.out.fields, path)
	}
	return func(s *subject) value { return s.fields[i] }, nil
}

func (c *compiler) unary(n *ast.UnaryNode) (evaluate, error) {
	x, err := c.node(n.Node)
	if err != nil {
		return nil, err
	}
	switch n.Operator {
	case "not", "!":
		return func(s *subject) value { return boolean(!x(s).isTrue()) }, nil
	case "-", "+":
		if v := x(&subject{message: &broker.Message{}}); isConstant(n.Node) && v.kind == number {
			if n.Operator == "-" {
				v.num = -v.num
			}
			return constant(v), nil
		}
	}
	return nil, wrong(n, "there is no arithmetic")
}

func isConstant(n ast.Node) bool {
	switch n.(type) {
	case *ast.IntegerNode, *ast.FloatNode:
		return true
	}
	return false
}

func (c *compiler) binary(n *ast.BinaryNode) (evaluate, error) {
	x, err := c.node(n.Left)
	if err != nil {
		return nil, err
	}
	if n.Operator == "in" {
		return c.in(n, x)
	}
	y, err := c.node(n.Right)
	if err != nil {
		return nil, err
	}
	switch n.Operator {
	case "and", "&&":
		return func(s *subject) value { return boolean(x(s).isTrue() && y(s).isTrue()) }, nil
	case "or", "||":
		return func(s *subject) value { return boolean(x(s).isTrue() || y(s).isTrue()) }, nil
	case "==":
		return func(s *subject) value { return boolean(x(s).equals(y(s))) }, nil
	case "!=":
		return func(s *subject) value { return boolean(!x(s).equals(y(s))) }, nil
	case "<":
		return ordered(x, y, func(c int) bool { return c < 0 }), nil
	case "<=":
		return ordered(x, y, func(c int) bool { return c <= 0 }), nil
	case ">":
		return ordered(x, y, func(c int) bool { return c > 0 }), nil
	case ">=":
		return ordered(x, y, func(c int) bool { return c >= 0 }), nil
	case "contains":
		return texts(x, y, strings.Contains), nil
	case "startsWith":
		return texts(x, y, strings.HasPrefix), nil
	case "endsWith":
		return texts(x, y, strings.HasSuffix), nil
	}
	return nil, wrong(n, "there is no %s; there are comparisons, and, or, not, in, contains, startsWith and endsWith", n.Operator)
}

// in is membership in a list of constants.
func (c *compiler) in(n *ast.BinaryNode, x evaluate) (evaluate, error) {
	list, ok := n.Right.(*ast.ArrayNode)
	if !ok {
		return nil, wrong(n, `write a list after in, such as ["a", "b"]`)
	}
	values := make([]value, len(list.Nodes))
	for i, item := range list.Nodes {
		v, err := c.node(item)
		if err != nil {
			return nil, err
		}
		switch item.(type) {
		case *ast.StringNode, *ast.IntegerNode, *ast.FloatNode, *ast.BoolNode, *ast.NilNode, *ast.UnaryNode:
			values[i] = v(&subject{message: &broker.Message{}})
		default:
			return nil, wrong(item, "a list has only texts, numbers, true, false and nil")
		}
	}
	return func(s *subject) value {
		v := x(s)
		for _, w := range values {
			if v.equals(w) {
				return boolean(true)
			}
		}
		return boolean(false)
	}, nil
}

// ordered compares two numbers or two texts; anything else is not in order, so the comparison is false.
func ordered(x, y evaluate, holds func(int) bool) evaluate {
	return func(s *subject) value {
		v, w := x(s), y(s)
		switch {
		case v.kind != w.kind:
			return boolean(false)
		case v.kind == number:
			switch {
			case v.num < w.num:
				return boolean(holds(-1))
			case v.num > w.num:
				return boolean(holds(1))
			}
			return boolean(holds(0))
		case v.kind == text:
			return boolean(holds(strings.Compare(v.text, w.text)))
		}
		return boolean(false)
	}
}

func texts(x, y evaluate, holds func(s, t string) bool) evaluate {
	return func(s *subject) value {
		v, w := x(s), y(s)
		return boolean(v.kind == text && w.kind == text && holds(v.text, w.text))
	}
}
