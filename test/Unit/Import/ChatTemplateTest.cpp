// Chat templates: what the interpreter computes, what it refuses and how it says so, and templates
// made to exhaust memory, time or the stack.
#include "quern/Import/ChatTemplate.h"
#include "Builders.h"
#include <chrono>

using namespace quern::import;
using namespace quern::runtime;

namespace {

std::string repeat(const std::string &text, size_t n) {
  std::string out;
  for (size_t i = 0; i < n; ++i)
    out += text;
  return out;
}

/// The text, or the error after "error: ".
std::string render(const std::string &source) {
  std::vector<ChatMessage> messages = {{ChatRole::User, "hi"}};
  auto text = renderChatTemplate(source, "<s>", "</s>", messages, true);
  return text ? *text : "error: " + llvm::toString(text.takeError());
}

TEST(ChatTemplate, Computes) {
  for (auto [source, expected] : std::vector<std::pair<const char *, const char *>>{
           {"{{ 1 + 2 * 3 ** 2 - -4 // 3 }}", "21"},
           {"{{ 7 % -3 ~ '|' ~ -7 // 2 ~ '|' ~ 1 / 2 }}", "-2|-4|0.5"},
           {"{{ 1 % 9223372036854775807 ~ '|' ~ -1 % 9223372036854775807 }}", "1|9223372036854775806"},
           {"{{ 'a' in 'abc' and 'b' not in ['a'] }}", "True"},
           {"{{ [1, 'x', {'k': none}] }}", "[1, 'x', {'k': None}]"},
           {"{{ \"it's\" | tojson }} {{ [\"it's\", 'a\"'] }}", "\"it's\" [\"it's\", 'a\"']"},
           {"{{ {'a': [1, {'b': []}]} | tojson(indent=1) }}",
            "{\n \"a\": [\n  1,\n  {\n   \"b\": []\n  }\n ]\n}"},
           {"{{ 'abcde'[1:-1:2] ~ 'abc'[::-1] }}", "bdcba"},
           {"{{ '\\u00e9\\x41\\n' | length }}", "3"},
           {"{% macro m(a, b='B') %}{{ a ~ b }}{% endmacro %}{{ m('A') ~ m(b=1, a=2) }}", "AB21"},
           {"{% set ns = namespace(n=0) %}{% for i in range(4) if i is odd %}"
            "{% set ns.n = ns.n + i %}{{ loop.index }}{% endfor %}={{ ns.n }}",
            "12=4"},
           {"{% for k, v in {'a': 1}.items() %}{{ k }}{{ v }}{% else %}none{% endfor %}", "a1"},
           {"{% for i in 'abc' %}{% if i == 'b' %}{% continue %}{% endif %}{{ i }}{% endfor %}",
            "ac"},
           {"{{ messages | map(attribute='role') | join(',') | upper }}", "USER"},
           {"{{ ' a b ' .split() }} {{ 'a--b'.split('-', 1) }}", "['a', 'b'] ['a', '-b']"},
           {"{{ x is defined }}{{ x | default('d') }}{{ (1, 2) | last }}", "Falsed2"},
           {"{%- if true -%}  a  {%- endif -%}  {# note -#} b", "ab"},
           {"{{ [3, 1, 3] | unique | list == [3, 1] }}{{ [[1]] == [[1]] }}", "TrueTrue"}})
    EXPECT_EQ(render(source), expected) << source;
}

TEST(ChatTemplate, Refuses) {
  for (auto [source, expected] : std::vector<std::pair<const char *, const char *>>{
           {"{{ 'a", "the chat template, line 1: a string is never closed"},
           {"\n{{ a", "the chat template, line 2: a tag is never closed"},
           {"{# a", "the chat template, line 1: a comment is never closed"},
           {"{{ $ }}", "unexpected character '$'"},
           {"{% if a %}", "a block is never closed"},
           {"{% include 'x' %}", "the statement 'include' is not supported"},
           {"{% for a in b recursive %}{% endfor %}", "recursive loops are not supported"},
           {"{{ 99999999999999999999 }}", "bad number '99999999999999999999'"},
           {"{{ a[1:2:3:4] }}", "a slice has at most three parts"},
           {"{{ a[] }}", "an empty subscript"},
           {"{{ a. }}", "expected an attribute, found ''"},
           {"{{ f(1 2) }}", "expected ',' or ')', found '2'"},
           {"{{ {1 2} }}", "expected ':', found '2'"},
           {"{{ a b }}", "unexpected 'b' in a tag"},
           {"{{ raise_exception('no') }}", "line 1: the template says: no"},
           {"{{ a.b.c }}", "'a' is undefined"},
           {"{{ 1 // 0 }}", "division by zero"},
           {"{{ 1 + 'a' }}", "'+' does not apply to '1' and 'a'"},
           {"{{ 1 < 'a' }}", "'1' and 'a' cannot be ordered"},
           {"{{ 9223372036854775807 + 1 }}", "a number grows too large"},
           {"{{ nope() }}", "'nope' is undefined"},
           {"{{ 'a' | nope }}", "the filter 'nope' is not supported"},
           {"{{ 'a' is nope }}", "the test 'nope' is not supported"},
           {"{{ 'a'.nope() }}", "the method 'nope' of ''a'' is not supported"},
           {"{{ range(1, 2, 0) }}", "range needs a step other than zero"},
           {"{% set x.a = 1 %}", "'x' is not a namespace"},
           {"{% set n = namespace() %}{% set n.a = n %}", "a namespace cannot hold a namespace"},
           {"{% for a, b in [[1]] %}{% endfor %}", "cannot unpack 1 values into 2 names"},
           {"{{ 1[0:1] }}", "only lists and strings have slices"},
           {"{{ 'a'[::0] }}", "a slice's step cannot be zero"}}) {
    std::string found = render(source);
    EXPECT_CONTAINS(found, expected);
    EXPECT_EQ(found.rfind("error: ", 0), 0u) << source;
    EXPECT_EQ(found.find('\n'), std::string::npos) << source;
  }
}

/// Each of these once ran for minutes, took gigabytes or overran the stack, or might.
TEST(ChatTemplate, Bombs) {
  std::string doubling = "{% set x = [1, 1] %}" + repeat("{% set x = [x, x] %}", 60),
              wide = "{% set s = 'a' * 500000 %}", keys;
  for (int i = 0; i < 60000; ++i)
    keys += "'" + std::to_string(i) + "':1,";
  for (const std::string &source : std::vector<std::string>{
           // Trees and values as deep as the template is long.
           "{{ " + repeat("1+", 300000) + "1 }}", "{{ x" + repeat("|list", 100000) + " }}",
           "{{ x" + repeat(".a", 200000) + " }}", "{{ 1" + repeat(" if 1", 100000) + " }}",
           "{{ " + repeat("not ", 100000) + "1 }}", "{{ " + repeat("(", 100000) + " }}",
           "{{ " + repeat("-", 100000) + "1 }}", "{{ x" + repeat("(1)", 100000) + " }}",
           repeat("{% if 1 %}", 50000), "{% if 1 %}" + repeat("{% elif 1 %}", 50000),
           "{% set x = [] %}" + repeat("{% set x = [x] %}", 50000),
           "{% set x = {} %}" + repeat("{% set x = {'a': x} %}", 40000),
           "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
           // Lists that share their elements, exponentially many when written out.
           doubling + "{{ x }}", doubling + "{{ x | tojson(indent=16) }}",
           doubling + "{% set y = x %}{{ x == y }}", doubling + "{{ x in [x] }}",
           doubling + "{% set n = namespace() %}{% set n.a = x %}", doubling + "{{ x | join('') }}",
           doubling + "{{ [x] | unique }}",
           // Copies of long texts and lists.
           wide + repeat("{% set a = s %}", 20000), wide + "{{ [" + repeat("s,", 20000) + "] }}",
           wide + "{% for i in range(100000) %}{% set a = s.split('b') %}{% endfor %}",
           wide + "{% for i in range(90000) %}{% if (s ~ 'b') in s %}{% endif %}{% endfor %}",
           "{% for i in range(90000) %}{% set a = '" + std::string(500000, 'a') +
               "' %}{% endfor %}",
           "{% set s = 'a' * 1000000 %}{{ (s ~ s).find('a' * 500000 ~ 'b') }}",
           "{{ 'a' * 9999999999 }}", "{% set l = range(99999) | list %}{{ l + l }}",
           "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
           "{% set x = 'aa' %}" + repeat("{% set x = x ~ x %}", 60),
           "{% set d = {" + keys + "} %}{% for i in range(9999) %}{{ d['59999'] }}{% endfor %}"}) {
    auto start = std::chrono::steady_clock::now();
    std::string found = render(source);
    EXPECT_EQ(found.rfind("error: ", 0), 0u) << source.substr(0, 100) << " -> " << found.size();
    ChatFormat format = chatFormat(source, "", "");
    EXPECT_NE(format.problem, "") << source.substr(0, 100);
    std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
    EXPECT_LT(seconds.count(), 5) << source.substr(0, 100);
  }
  // What is long and flat is fine.
  EXPECT_EQ(render(repeat("{{ 1 }}", 20000)), std::string(20000, '1'));
}

} // namespace
