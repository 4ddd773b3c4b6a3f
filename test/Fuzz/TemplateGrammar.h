//===- TemplateGrammar.h - Chat templates out of decisions ------*- C++ -*-===//
//
// Mostly well-typed programs in the language of chat templates, so that rendering
// gets past the first expression; wrong types, unknown names and broken syntax
// come in now and then.
//
//===----------------------------------------------------------------------===//
#ifndef QUERN_TEST_FUZZ_TEMPLATEGRAMMAR_H
#define QUERN_TEST_FUZZ_TEMPLATEGRAMMAR_H

#include "Generator.h"

namespace quern::fuzz {

class TemplateGrammar {
public:
  explicit TemplateGrammar(Decisions &d) : d(d) {}

  /// A whole template: most often one that renders conversations, with statements of all kinds
  /// around and inside its loop; else statements alone.
  std::string whole() {
    std::string out;
    if (d.below(4) == 0)
      out += "{{ bos_token }}";
    for (unsigned n = d.below(3); n > 0; --n)
      out += quiet(2);
    if (d.rarely(8))
      for (unsigned n = d.below(6); n > 0; --n)
        out += statement(3);
    else
      out += conversation();
    if (d.rarely(10))
      out += statement(2);
    return out;
  }

private:
  Decisions &d;

  std::string tag(const std::string &body) {
    static const char *const open[] = {"{% ", "{%- ", "{%", "{%+ "};
    static const char *const close[] = {" %}", " -%}", "%}"};
    return d.pick(open) + body + d.pick(close);
  }
  std::string output(const std::string &body) {
    static const char *const open[] = {"{{ ", "{{- ", "{{"};
    static const char *const close[] = {" }}", " -}}"};
    return d.pick(open) + body + d.pick(close);
  }

  /// The usual shape: a loop over the messages with markup by role.
  std::string conversation() {
    static const char *const contents[] = {"message['content']",
                                           "message.content",
                                           "message.content | trim",
                                           "message['content'].strip()",
                                           "(message.content | default('', true))",
                                           "message.get('content')",
                                           "message.content.split('</think>')[-1].lstrip('\\n')",
                                           "message.content | string",
                                           "message.content ~ ''",
                                           "'' + message['content']"};
    static const char *const opens[] = {"<|im_start|>", "<|", "[INST] ", "### ", "\\n", "<start>"};
    std::string out = tag("for message in messages"), content = d.pick(contents),
                open = d.pick(opens);
    if (d.rarely(4))
      out += tag("if message.role not in ['user', 'assistant', 'system']") +
             output("raise_exception('Unknown role: ' + message.role)") + tag("endif");
    if (d.below(3) == 0)
      out += quiet(2);
    switch (d.below(3)) {
    case 0:
      out += output("'" + open + "' + message['role'] + '\\n' + " + content + " + '<|end|>'");
      break;
    case 1:
      out += tag("if message.role == 'user'") + open + "U" + output(content) +
             tag("elif message['role'] == 'assistant'") + "A" + output(content) +
             output("eos_token") + tag("else") + "S" + output(content) + tag("endif");
      break;
    case 2:
      out += tag("if loop.first and message.role == 'system'") + "<<" + output(content) + ">>" +
             tag("else") + open + output("message.role | upper") + ":" + output(content) +
             tag("endif");
      break;
    }
    if (d.below(3) == 0)
      out += quiet(1);
    out += tag("endfor");
    if (!d.rarely(6))
      out += tag("if add_generation_prompt") + "<go>" + tag("endif");
    return out;
  }

  /// A statement that prints nothing.
  std::string quiet(unsigned depth) {
    static const char *const names[] = {"x", "y", "ns.a", "ns.b", "x, y"};
    switch (d.below(7)) {
    case 0:
      return tag("set ns = namespace(a=" + number(depth) + ", b=" + any(depth) + ")");
    case 1:
      return tag("set x = " + any(depth));
    case 2:
      return tag(std::string("set ") + d.pick(names) + " = " + any(depth));
    case 3:
      return tag("if " + boolean(depth)) + tag("set y = " + text(depth)) + tag("endif");
    case 4:
      return tag("macro m(a, b=" + any(depth ? depth - 1 : 0) + ")") + output("a ~ b") +
             (depth ? statement(depth - 1) : "") + tag("endmacro");
    case 5:
      return d.text(3).find_first_of("#}") == std::string::npos ? "{#- note -#}" : "{# #}";
    default:
      return tag("set z") + output(text(depth)) + tag("endset");
    }
  }

  std::string statement(unsigned depth) {
    switch (depth == 0 ? d.below(3) : d.below(9)) {
    case 0:
      return output(any(depth));
    case 1:
      return quiet(depth ? depth - 1 : 0);
    case 2:
      return d.rarely(6) ? d.text(6) : std::string(" text\n");
    case 3:
      return tag("if " + boolean(depth - 1)) + statement(depth - 1) + tag("else") +
             statement(depth - 1) + tag("endif");
    case 4:
      return tag("for i in " + list(depth - 1)) + statement(depth - 1) +
             (d.below(3) ? "" : tag(d.below(2) ? "break" : "continue")) + output("loop.index0") +
             tag("endfor");
    case 5:
      return tag("for k, v in " + dict(depth - 1) + ".items()") + output("k ~ v") +
             statement(depth - 1) + tag("else") + statement(depth - 1) + tag("endfor");
    case 6:
      return tag("for m in messages if " + boolean(depth - 1)) +
             output("loop.previtem is defined and loop.last") + statement(depth - 1) +
             tag("endfor");
    case 7:
      return tag("generation") + statement(depth - 1) + tag("endgeneration");
    default:
      return broken();
    }
  }

  std::string text(unsigned depth) {
    static const char *const atoms[] = {"'a'",
                                        "\"it's\"",
                                        "'\\n\\u00e9\\x41'",
                                        "bos_token",
                                        "messages[0].content",
                                        "messages[-1]['role']",
                                        "''",
                                        "'a b  c'"};
    static const char *const filters[] = {
        "trim",   "upper", "lower",     "title",           "capitalize",         "tojson",
        "string", "safe",  "indent(2)", "indent(2, true)", "replace('a', 'bb')", "default('d')",
        "reverse"};
    static const char *const methods[] = {
        "strip()", "lstrip('a')",      "rstrip()",           "upper()",
        "title()", "replace('', 'y')", "replace('a', 'aa')", "capitalize()"};
    if (depth == 0 || d.done())
      return d.pick(atoms);
    --depth;
    switch (d.below(11)) {
    case 0:
      return text(depth) + " + " + text(depth);
    case 1:
      return any(depth) + " ~ " + any(depth);
    case 2:
      return "(" + text(depth) + ") | " + d.pick(filters);
    case 3:
      return "(" + text(depth) + ")." + d.pick(methods);
    case 4:
      return "(" + text(depth) + ")[" + number(depth) + ":" + (d.below(2) ? number(depth) : "") +
             (d.below(2) ? ":" + number(depth) : "") + "]";
    case 5:
      return "(" + text(depth) + " if " + boolean(depth) + " else " + text(depth) + ")";
    case 6:
      return "(" + text(depth) + ") * " + number(depth);
    case 7:
      return list(depth) + " | join(" + text(depth) + ")";
    case 8:
      return any(depth) + " | tojson(indent=" + number(depth) + ")";
    case 9:
      return d.below(2) ? "m(" + any(depth) + ")" : "strftime_now('%Y-%m-%d')";
    default:
      return "(" + text(depth) + ").join(" + list(depth) + ")";
    }
  }

  std::string number(unsigned depth) {
    static const char *const atoms[] = {"0",
                                        "1",
                                        "2",
                                        "3",
                                        "-1",
                                        "7",
                                        "1_000",
                                        "100000",
                                        "9223372036854775807",
                                        "messages | length",
                                        "-9223372036854775807",
                                        "1.5",
                                        "0.0"};
    static const char *const ops[] = {" + ", " - ", " * ", " // ", " % ", " / ", " ** "};
    if (depth == 0 || d.done())
      return d.rarely(4) ? d.pick(atoms) : std::to_string(d.below(6));
    --depth;
    switch (d.below(5)) {
    case 0:
      return "(" + number(depth) + d.pick(ops) + number(depth) + ")";
    case 1:
      return "(" + text(depth) + " | length)";
    case 2:
      return "(" + any(depth) + " | int)";
    case 3:
      return "(-" + number(depth) + ")";
    default:
      return "(" + text(depth) + ").find('a')";
    }
  }

  std::string boolean(unsigned depth) {
    static const char *const atoms[] = {
        "true",     "false", "add_generation_prompt", "x is defined",
        "messages", "none",  "tools is not defined"};
    static const char *const tests[] = {
        "defined", "undefined", "none",      "string",    "mapping",   "iterable",      "sequence",
        "number",  "integer",   "float",     "boolean",   "true",      "false",         "callable",
        "odd",     "even",      "equalto 1", "sameas(2)", "in [1, 2]", "divisibleby 3", "ne 2"};
    static const char *const orders[] = {" < ", " > ", " <= ", " >= "};
    if (depth == 0 || d.done())
      return d.pick(atoms);
    --depth;
    switch (d.below(8)) {
    case 0:
      return "(" + boolean(depth) + (d.below(2) ? " and " : " or ") + boolean(depth) + ")";
    case 1:
      return "not " + boolean(depth);
    case 2:
      return any(depth) + (d.below(2) ? " == " : " != ") + any(depth);
    case 3:
      return number(depth) + d.pick(orders) + number(depth);
    case 4:
      return any(depth) + (d.below(2) ? " is " : " is not ") + d.pick(tests);
    case 5:
      return text(depth) + (d.below(2) ? " in " : " not in ") +
             (d.below(2) ? text(depth) : list(depth));
    case 6:
      return "(" + text(depth) + ")." + (d.below(2) ? "startswith" : "endswith") + "('a')";
    default:
      return text(depth) + d.pick(orders) + text(depth);
    }
  }

  std::string list(unsigned depth) {
    static const char *const atoms[] = {"[]",   "[1, 2]",   "['a', 'b', 'a']", "messages",
                                        "(1,)", "range(3)", "range(5, 1, -2)", "'abc'"};
    static const char *const filters[] = {"list",
                                          "reverse",
                                          "unique",
                                          "map('upper')",
                                          "map(attribute='role')",
                                          "selectattr('role', 'equalto', 'user')",
                                          "rejectattr('role')",
                                          "select('string')",
                                          "reject('none')",
                                          "items",
                                          "map('int')"};
    if (depth == 0 || d.done())
      return d.pick(atoms);
    --depth;
    switch (d.below(7)) {
    case 0:
      return "[" + any(depth) + ", " + any(depth) + "]";
    case 1:
      return "(" + list(depth) + " | list + " + list(depth) + " | list)";
    case 2:
      return "(" + list(depth) + " | " + d.pick(filters) + ")";
    case 3:
      return "(" + list(depth) + ")[" + (d.below(2) ? number(depth) : "") + ":" +
             (d.below(2) ? number(depth) : "") + ":" + (d.below(2) ? "-1" : "") + "]";
    case 4:
      return "(" + text(depth) + ").split(" + (d.below(2) ? "'a'" : "") + ")";
    case 5:
      return "range(" + number(depth) + ")";
    default:
      return dict(depth) + (d.below(2) ? ".keys()" : ".values()");
    }
  }

  std::string dict(unsigned depth) {
    if (depth == 0 || d.done())
      return d.below(2) ? "{'a': 1, 'b': 'c'}" : "messages[0]";
    --depth;
    if (d.below(3) == 0)
      return "dict(a=" + any(depth) + ")";
    return "{" + text(depth) + ": " + any(depth) + ", 'k': " + any(depth) + "}";
  }

  std::string any(unsigned depth) {
    static const char *const atoms[] = {"x",
                                        "y",
                                        "ns",
                                        "ns.a",
                                        "x.a",
                                        "none",
                                        "nothing",
                                        "loop.index",
                                        "m",
                                        "x[0]",
                                        "messages[0].get('none', 1)",
                                        "x.a.b",
                                        "x.0"};
    switch (d.below(7)) {
    case 0:
    case 1:
      return text(depth);
    case 2:
      return number(depth);
    case 3:
      return boolean(depth);
    case 4:
      return list(depth);
    case 5:
      return dict(depth);
    default:
      return d.rarely(12) ? broken() : std::string(d.pick(atoms));
    }
  }

  /// What a template should not contain.
  std::string broken() {
    static const char *const pieces[] = {"{{ 7 // 0 }}",
                                         "{{",
                                         "%}",
                                         "{%",
                                         "}}",
                                         "'",
                                         "(",
                                         "[",
                                         "{{ raise_exception('no') }}",
                                         "{% macro %}",
                                         "{% set %}",
                                         "{% endif %}",
                                         "{% for %}",
                                         "{% for a in b recursive %}",
                                         "{# ",
                                         "{{ x[1:2:3:4] }}",
                                         "{{ x[] }}",
                                         "{{ 1 2 }}",
                                         "{{ x | nope }}",
                                         "{{ x is nope }}",
                                         "{{ nope() }}",
                                         "{{ 'a'.nope() }}",
                                         "{{ range(1, 2, 0) }}",
                                         "{{ range('a') }}",
                                         "{{ . }}",
                                         "{{ 99999999999999999999 }}",
                                         "{% include 'x' %}",
                                         "{{ namespace(a=namespace()) }}",
                                         "{% set q.a = 1 %}",
                                         "{{ 'a' | map }}",
                                         "{{ 1 if }}",
                                         "{{ a. }}",
                                         "{{ {1 2} }}",
                                         "{{ f(a=) }}",
                                         "{% break %}",
                                         "{{ $ }}",
                                         "{{ 1.e }}",
                                         "{{ [1, }}",
                                         "{{ messages | selectattr }}",
                                         "{{ 'x' * 100000000 }}",
                                         "{{ 1 + 'a' }}",
                                         "{{ 'a' < 1 }}",
                                         "{{ 1 in 'a' }}",
                                         "{{ -'a' }}",
                                         "{% for a, b in [1] %}{% endfor %}",
                                         "{{ 1[0:1] }}",
                                         "{{ 'abc'['a':] }}",
                                         "{{ loop() }}"};
    return d.rarely(8) ? d.text(8) : std::string(d.pick(pieces));
  }
};

} // namespace quern::fuzz

#endif
