package servicenowtest

import (
	"regexp"
	"slices"
	"strings"
)

// encodedQuery is a parsed filter: groups of clauses of conditions. A row matches when in any group every clause has a
// condition that it matches.
type encodedQuery struct {
	groups []queryGroup
	order  []orderTerm
}

type (
	queryGroup  []queryClause    // AND
	queryClause []queryCondition // OR
)

type orderTerm struct {
	column string
	desc   bool
}

// queryCondition is one condition as written. An empty op is one that does not parse; value then holds its whole text.
type queryCondition struct {
	column, op, value string
	display           bool // value may be a display value, as in field=value pairs
}

const textQuery = "123TEXTQUERY321"

// operators lists what may stand after a column's name. The parser tries the longest first.
var operators = func() []string {
	ops := strings.Split("NOT LIKE|NOTLIKE|NOT IN|NOTIN|DOES NOT CONTAIN|CONTAINS|LIKE|STARTSWITH|ENDSWITH|INSTANCEOF|IN|"+
		"ISEMPTY|ISNOTEMPTY|ANYTHING|EMPTYSTRING|BETWEEN|SAMEAS|NSAMEAS|GT_FIELD|LT_FIELD|GT_OR_EQUALS_FIELD|"+
		"LT_OR_EQUALS_FIELD|NOTON|ON|RELATIVEGT|RELATIVELT|RELATIVEGE|RELATIVELE|RELATIVEEE|MORETHAN|LESSTHAN|"+
		"!=|<=|>=|=|<|>|!*|*|%", "|")
	slices.SortFunc(ops, func(a, b string) int { return len(b) - len(a) })
	return ops
}()

// notPlayed are operators that the platform knows and the simulator does not: their conditions count as invalid.
var notPlayed = regexp.MustCompile(`^(IN_HIERARCHY|DYNAMIC|DATEPART)`)

var columnName = regexp.MustCompile(`^[a-z][a-z0-9_.]*`)

// parseQuery splits an encoded query. It never fails: what it cannot read becomes a condition without operator, which
// the caller treats by the instance's bad-query mode.
func parseQuery(text string) encodedQuery {
	var p queryParser
	for part := range strings.SplitSeq(text, "^") {
		p.add(part)
	}
	p.endGroup()
	return p.q
}

// queryParser gathers the parts between carets.
type queryParser struct {
	q       encodedQuery
	group   queryGroup
	related bool // inside RLQUERY, whose conditions belong to another table
}

func (p *queryParser) endGroup() {
	if len(p.group) > 0 {
		p.q.groups = append(p.q.groups, p.group)
	}
	p.group = nil
}

func (p *queryParser) add(part string) {
	for !p.related && strings.HasPrefix(part, "NQ") {
		p.endGroup()
		part = part[2:]
	}
	switch {
	case p.related:
		p.related = part != "ENDRLQUERY"
	case part == "" || part == "EQ" || strings.HasPrefix(part, "GROUPBY"):
	case strings.HasPrefix(part, "ORDERBY"):
		p.q.order = append(p.q.order, parseOrder(part))
	case strings.HasPrefix(part, "RLQUERY"):
		p.related = true
		p.group = append(p.group, queryClause{{value: part}})
	case strings.HasPrefix(part, "OR") && len(p.group) > 0:
		last := len(p.group) - 1
		p.group[last] = append(p.group[last], parseCondition(part[2:]))
	default:
		p.group = append(p.group, queryClause{parseCondition(part)})
	}
}

func parseOrder(part string) orderTerm {
	if col, ok := strings.CutPrefix(part, "ORDERBYDESC"); ok {
		return orderTerm{col, true}
	}
	return orderTerm{strings.TrimPrefix(part, "ORDERBY"), false}
}

func parseCondition(part string) queryCondition {
	if words, ok := strings.CutPrefix(part, textQuery+"="); ok {
		return queryCondition{column: textQuery, op: "=", value: words}
	}
	col := columnName.FindString(part)
	rest := part[len(col):]
	if col == "" || notPlayed.MatchString(rest) {
		return queryCondition{value: part}
	}
	for _, op := range operators {
		if value, ok := strings.CutPrefix(rest, op); ok {
			return queryCondition{column: col, op: op, value: value}
		}
	}
	return queryCondition{value: part}
}

// String is the query in the platform's writing.
func (q encodedQuery) String() string {
	var b strings.Builder
	for i, g := range q.groups {
		if i > 0 {
			b.WriteString("^NQ")
		}
		for j, clause := range g {
			if j > 0 {
				b.WriteString("^")
			}
			for k, c := range clause {
				if k > 0 {
					b.WriteString("^OR")
				}
				b.WriteString(c.column + c.op + c.value)
				if k == 0 && c.op == "" && strings.HasPrefix(c.value, "RLQUERY") {
					b.WriteString("^ENDRLQUERY")
				}
			}
		}
	}
	for _, o := range q.order {
		word := "^ORDERBY"
		if o.desc {
			word = "^ORDERBYDESC"
		}
		b.WriteString(word + o.column)
	}
	return strings.TrimPrefix(b.String(), "^")
}
