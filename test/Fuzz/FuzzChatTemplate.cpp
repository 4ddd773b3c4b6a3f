// Fuzzes the interpreter of chat templates with templates made of likely fragments.
#include "Generator.h"
#include "quern/Import/ChatTemplate.h"

using quern::fuzz::Decisions;

namespace {
const char *const fragments[] = {"{% for message in messages %}",
                                 "{% endfor %}",
                                 "{%- if message.role == 'user' -%}",
                                 "{% elif x is defined %}",
                                 "{% else %}",
                                 "{% endif %}",
                                 "{{ message['content'] | trim }}",
                                 "{{ message.role + '\\n' }}",
                                 "{{ bos_token }}",
                                 "{% set ns = namespace(a=1, b='x') %}",
                                 "{% set ns.a = ns.a + 1 %}",
                                 "{% set x %}",
                                 "{% endset %}",
                                 "{% macro m(a, b=2) %}",
                                 "{% endmacro %}",
                                 "{{ m(1) }}",
                                 "{{ messages[1:][::-1] }}",
                                 "{{ messages|length ** 3 }}",
                                 "{{ raise_exception('no') }}",
                                 "{{ range(100000)|list }}",
                                 "{% set x = x ~ x %}",
                                 "{{ 'a' * 1000000 }}",
                                 "{{ [[[[1]]]] == [1] }}",
                                 "{{ {'a': {'b': 1}}|tojson(indent=2) }}",
                                 "{% if add_generation_prompt %}",
                                 "<|im_start|>",
                                 "{{ message.content.split('</think>')[-1].lstrip('\\n') }}",
                                 "{{ strftime_now('%Y') }}",
                                 "{# comment #}",
                                 "\n",
                                 "  ",
                                 "{{ loop.index0 % 2 == 0 and not loop.last }}",
                                 "{{ messages | selectattr('role', 'equalto', 'user') | list }}",
                                 "{% break %}",
                                 "{% continue %}",
                                 "{{ 7 // 0 }}",
                                 "{{ -9223372036854775807 - 9 }}",
                                 "{{ ns }}",
                                 "{% set ns.b = [ns] %}",
                                 "{{ (1, 2)|join(', ') }}",
                                 "{{ 1 if 2 }}",
                                 "{{ a.b.c }}",
                                 "{{ 'x'.replace('', 'y') }}",
                                 "{{",
                                 "%}",
                                 "{%",
                                 "}}",
                                 "'",
                                 "("};

quern::fuzz::Tally tally("chat template");
} // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
  Decisions d(bytes, size);
  std::string source;
  for (unsigned n = 0; n < 60 && !d.done(); ++n)
    source += d.rarely(12) ? d.text(6) : std::string(d.pick(fragments));
  ++tally.runs;
  quern::runtime::ChatFormat format = quern::import::chatFormat(source, "<s>", "</s>");
  ++tally.header;
  tally.accepted += format.problem.empty();
  std::vector<uint8_t> stored = format.serialize();
  quern::runtime::ChatFormat again;
  if (!again.parse(stored.data(), stored.size()) || again.serialize() != stored)
    abort();
  return 0;
}
