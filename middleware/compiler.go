package middleware

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/expr-lang/expr/ast"
	"github.com/expr-lang/expr/file"
	"github.com/expr-lang/expr/parser"
)

// The grammar of expressions and its parser are expr-lang/expr's, which is well kept and fuzzed. Its compiler and
// virtual machine are not used: they have calls, closures and arithmetic, which would have to be forbidden again, they
// fail where types do not match, and they need the whole payload decoded, which takes twelve times as long. What the
// parser returns is admitted node by node and becomes Go closures. google/cel-go bounds the cost of an expression too,
// but it takes fifteen times as long, wants the types known beforehand and brings ANTLR and Protocol Buffers along.
//
// There is no matches: RE2 multiplies the lengths of payload and program, and short expressions make long
// programs. docs/stages.md has the figures.

const (
	maxExpression = 512 // bytes
	maxNodes      = 64
	maxFields     = 8 // different fields of the payload
)

const operators = "there are comparisons, and, or, not, in, contains, startsWith and endsWith"

// compile makes an expression of a text. The error says what is wrong, where, and what to write instead.
func compile(source string) (*expression, error) {
	tree, err := parse(source)
	if err != nil {
		return nil, err
	}
	if strings.Contains(source, "//") || strings.Contains(source, ";") {
		if _, err := parse("(" + source + ")"); err != nil { // it is shown to clients as a part of a longer one
			return nil, errors.New("leave out the comment or semicolon at its end")
		}
	}
	c := compiler{out: &expression{}}
	if c.out.test, err = c.node(tree.Node); err != nil {
		return nil, err
	}
	c.out.fields = len(c.paths)
	return c.out, nil
}

func parse(source string) (*parser.Tree, error) {
	tree, err := parser.Parse(source)
	if err == nil {
		return tree, nil
	}
	var e *file.Error
	if errors.As(err, &e) {
		return nil, fmt.Errorf("character %d: %s", e.From+1, explain(e.Message))
	}
	return nil, errors.New(shorten(err.Error()))
}

// explain makes what the parser says a sentence with a fix, as far as one can be guessed.
func explain(message string) string {
	token, ok := strings.CutPrefix(message, "unexpected token ")
	switch {
	case strings.HasPrefix(message, "invalid integer"), strings.HasPrefix(message, "invalid float"):
		return "this number can't be used"
	case strings.HasPrefix(message, "literal not terminated"):
		return "a text lacks its closing quote"
	case !ok:
		return shorten(message)
	case token == "EOF":
		return "it ends where something must follow"
	}
	if _, inner, ok := strings.Cut(token, "("); ok { // such as Operator("=")
		if inner, err := strconv.Unquote(strings.TrimSuffix(inner, ")")); err == nil {
			token = inner
		}
	}
	switch lower := strings.ToLower(token); lower {
	case "=", "&":
		return fmt.Sprintf("there is no %s; write %s%s", token, token, token)
	case "and", "or", "not", "in", "contains":
		if token != lower {
			return fmt.Sprintf("unexpected %s; write %s", token, lower)
		}
	}
	return fmt.Sprintf("unexpected %q", shorten(token))
}

// shorten cuts a stranger's text for an error: what is left tells a typing error, and of a token that stands in the wrong place nothing
// that matters.
func shorten(s string) string {
	const most = 20
	if len(s) <= most {
		return s
	}
	n := most
	for n > most-utf8.UTFMax && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n] + "…"
}

func wrong(n ast.Node, format string, args ...any) error {
	return fmt.Errorf("character %d: %s", n.Location().From+1, fmt.Sprintf(format, args...))
}

type compiler struct {
	out   *expression
	nodes int
	paths []string // of the fields
}

type evaluate = func(*subject) value

func constant(v value) evaluate { return func(*subject) value { return v } }

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
	return nil, wrong(n, "%s is not part of this language; %s", shorten(n.String()), operators)
}

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
		return func(s *subject) value { return value{kind: text, text: s.payload()} }, nil
	case "data":
		return c.field(n, "")
	case "null", "undefined":
		return nil, wrong(n, "there is no %s; write nil", n.Value)
	}
	name := shorten(n.Value)
	return nil, wrong(n, `unknown name %q; write "%s" for a text, data.%s for a field; there are event, key, channel, text and data`, name, name, name)
}

// member reads data.a.b, data["a b"] and data.a[0].
func (c *compiler) member(n *ast.MemberNode) (evaluate, error) {
	var names []string
	at := ast.Node(n)
	for {
		m, ok := at.(*ast.MemberNode)
		if !ok {
			break
		}
		switch p := m.Property.(type) {
		case *ast.StringNode:
			if p.Value == "" {
				return nil, wrong(n, "a field's name can't be empty")
			}
			names = append(names, p.Value)
		case *ast.IntegerNode:
			names = append(names, strconv.Itoa(p.Value))
		default:
			return nil, wrong(n, "write a field's name or a number in brackets")
		}
		at = m.Node
	}
	if id, ok := at.(*ast.IdentifierNode); !ok || id.Value != "data" {
		return nil, wrong(n, "only data has fields")
	}
	slices.Reverse(names)
	return c.field(n, gjsonPath(names))
}

func (c *compiler) field(n ast.Node, path string) (evaluate, error) {
	i := slices.Index(c.paths, path)
	if i < 0 {
		if i = len(c.paths); i == maxFields {
			return nil, wrong(n, "more than %d different fields of data", maxFields)
		}
		c.paths = append(c.paths, path)
	}
	return func(s *subject) value { return s.field(i, path) }, nil
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
		if v, ok := literal(n.Node, x); ok && v.kind == number {
			if n.Operator == "-" {
				v.num = -v.num
			}
			return constant(v), nil
		}
	}
	return nil, wrong(n, "there is no arithmetic")
}

// literal returns the value of a node that is written out, and of its sign.
func literal(n ast.Node, x evaluate) (v value, ok bool) {
	switch n := n.(type) {
	case *ast.StringNode, *ast.IntegerNode, *ast.FloatNode, *ast.BoolNode, *ast.NilNode:
		return x(nil), true
	case *ast.UnaryNode:
		if _, ok := literal(n.Node, constant(value{})); ok {
			return x(nil), true
		}
	}
	return value{}, false
}

func (c *compiler) binary(n *ast.BinaryNode) (evaluate, error) {
	join := operator(n.Operator)
	if join == nil && n.Operator != "in" {
		return nil, wrong(n, "there is no %s; %s", n.Operator, operators)
	}
	x, err := c.node(n.Left)
	if err != nil {
		return nil, err
	}
	if join == nil {
		return c.in(n, x)
	}
	y, err := c.node(n.Right)
	if err != nil {
		return nil, err
	}
	return join(x, y), nil
}

// operator returns what makes one part of an expression out of two, nil if there is no such operator.
func operator(name string) func(x, y evaluate) evaluate {
	switch name {
	case "and", "&&":
		return func(x, y evaluate) evaluate {
			return func(s *subject) value { return boolean(x(s).isTrue() && y(s).isTrue()) }
		}
	case "or", "||":
		return func(x, y evaluate) evaluate {
			return func(s *subject) value { return boolean(x(s).isTrue() || y(s).isTrue()) }
		}
	case "==":
		return func(x, y evaluate) evaluate {
			return func(s *subject) value { return boolean(x(s).equals(y(s))) }
		}
	case "!=":
		return func(x, y evaluate) evaluate {
			return func(s *subject) value { return boolean(!x(s).equals(y(s))) }
		}
	case "<":
		return ordered(func(c int) bool { return c < 0 })
	case "<=":
		return ordered(func(c int) bool { return c <= 0 })
	case ">":
		return ordered(func(c int) bool { return c > 0 })
	case ">=":
		return ordered(func(c int) bool { return c >= 0 })
	case "contains":
		return texts(strings.Contains)
	case "startsWith":
		return texts(strings.HasPrefix)
	case "endsWith":
		return texts(strings.HasSuffix)
	}
	return nil
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
		if values[i], ok = literal(item, v); !ok {
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

// ordered compares two numbers or two texts; anything else is in no order, so the comparison is false.
func ordered(holds func(int) bool) func(x, y evaluate) evaluate {
	return func(x, y evaluate) evaluate {
		return func(s *subject) value {
			v, w := x(s), y(s)
			switch {
			case v.kind != w.kind:
				return boolean(false)
			case v.kind == number:
				return boolean(holds(cmp.Compare(v.num, w.num)))
			case v.kind == text:
				return boolean(holds(strings.Compare(v.text, w.text)))
			}
			return boolean(false)
		}
	}
}

func texts(holds func(s, t string) bool) func(x, y evaluate) evaluate {
	return func(x, y evaluate) evaluate {
		return func(s *subject) value {
			v, w := x(s), y(s)
			return boolean(v.kind == text && w.kind == text && holds(v.text, w.text))
		}
	}
}
