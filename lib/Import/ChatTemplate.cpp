//===- ChatTemplate.cpp - From a template to the text between messages ----===//
//
// Renders the template on conversations of marked messages, reads the text
// between the marks off, and verifies the format on further conversations.
//
//===----------------------------------------------------------------------===//
#include "quern/Import/ChatTemplate.h"
#include "ChatTemplateAst.h"
#include "quern/Support/Json.h"
#include "llvm/ADT/STLExtras.h"

using namespace llvm;
using namespace quern::runtime;

namespace quern::import {

namespace {
using Messages = std::vector<ChatMessage>;

class Deriver {
public:
  Deriver(StringRef bos, StringRef eos, uint64_t work)
      : bos(bos.str()), eos(eos.str()), budget(work) {}
  Error prepare(StringRef source);
  Error derive(ChatFormat &format);
  Expected<std::string> render(const Messages &messages, bool answer) const;

private:
  jinja::Block program;
  std::string bos, eos;
  bool dates = false;      ///< strftime_now is defined
  mutable uint64_t budget; ///< of all renderings together

  Error between(const std::string &text, const std::vector<std::string> &marks,
                std::vector<std::string> &out) const;
  Error readTrim(Messages messages, size_t probed, bool answer, ChatTrim &left,
                 ChatTrim &right) const;
  Error readReasoning(ChatFormat &format) const;
  Error verify(const ChatFormat &format) const;
};

// Marks that no template would treat specially, and that white space cannot touch.
const char *const userMarks[] = {"QuernUserA", "QuernUserB", "QuernUserC", "QuernUserD"};
const char *const answerMarks[] = {"QuernReplyA", "QuernReplyB", "QuernReplyC"};
const char *const systemMark = "QuernSystem";

Messages conversation(bool system, unsigned users, bool endWithAnswer = false) {
  Messages m;
  if (system)
    m.push_back({ChatRole::System, systemMark});
  for (unsigned i = 0; i < users; ++i) {
    m.push_back({ChatRole::User, userMarks[i]});
    if (i + 1 < users || endWithAnswer)
      m.push_back({ChatRole::Assistant, answerMarks[i]});
  }
  return m;
}

Error Deriver::prepare(StringRef source) {
  Expected<jinja::Block> parsed = jinja::parse(source);
  if (!parsed)
    return parsed.takeError();
  program = std::move(*parsed);
  // A template that cannot do without today's date gets it from the running program; one that
  // has a date of its own keeps it, so that the same input compiles to the same bytes.
  Expected<std::string> plain = render(conversation(false, 1), true);
  if (plain)
    return Error::success();
  std::string why = toString(plain.takeError());
  if (!StringRef(why).contains("strftime_now"))
    return createStringError(why);
  dates = true;
  Expected<std::string> dated = render(conversation(false, 1), true);
  return dated ? Error::success() : dated.takeError();
}

Expected<std::string> Deriver::render(const Messages &messages, bool answer) const {
  using jinja::Value;
  static const char *const roles[] = {"system", "user", "assistant"};
  jinja::List list;
  for (const ChatMessage &m : messages)
    list.push_back(Value::of(jinja::Dict{{"role", Value::of(std::string(roles[size_t(m.role)]))},
                                         {"content", Value::of(m.content)}}));
  std::vector<std::pair<std::string, Value>> variables = {
      {"messages", Value::of(std::move(list))},
      {"add_generation_prompt", Value::boolean(answer)},
      {"bos_token", Value::of(bos)},
      {"eos_token", Value::of(eos)}};
  if (dates)
    variables.emplace_back("strftime_now", Value::builtin("strftime_now_placeholder"));
  return jinja::render(program, variables, budget);
}

/// What lies before, between and after the marks, which must occur once each and in order.
Error Deriver::between(const std::string &text, const std::vector<std::string> &marks,
                       std::vector<std::string> &out) const {
  size_t at = 0;
  out.clear();
  for (const std::string &mark : marks) {
    size_t hit = text.find(mark, at);
    if (hit == std::string::npos || text.find(mark, hit + 1) != std::string::npos)
      return createStringError("a message does not occur exactly once, in its place");
    out.push_back(text.substr(at, hit - at));
    at = hit + mark.size();
  }
  out.push_back(text.substr(at));
  return Error::success();
}

/// What the template drops at either end of one message of a conversation.
Error Deriver::readTrim(Messages m, size_t probed, bool answer, ChatTrim &left,
                        ChatTrim &right) const {
  // The white space around the message tells: a newline first, then other kinds.
  const std::string before = "\n \t", after = "\t \n", mark = m[probed].content;
  Expected<std::string> plain = render(m, answer);
  if (!plain)
    return plain.takeError();
  m[probed].content = before + mark + after;
  Expected<std::string> padded = render(m, answer);
  if (!padded)
    return padded.takeError();
  size_t p = plain->find(mark), q = padded->find(mark);
  if (p == std::string::npos || q == std::string::npos || q < p)
    return createStringError("white space around a message changes the text elsewhere");
  size_t tail = plain->size() - p - mark.size(), rest = padded->size() - q - mark.size();
  if (rest < tail)
    return createStringError("white space around a message changes the text elsewhere");
  auto kind = [](const std::string &kept, const std::string &all, const std::string &inner,
                 ChatTrim &trim) {
    if (kept == all)
      trim = ChatTrim::None;
    else if (kept == inner)
      trim = ChatTrim::Newlines;
    else if (kept.empty())
      trim = ChatTrim::WhiteSpace;
    else
      return false;
    return true;
  };
  if (!kind(padded->substr(p, q - p), before, " \t", left) ||
      !kind(padded->substr(q + mark.size(), rest - tail), after, "\t ", right))
    return createStringError("it drops an unusual part of a message's white space");
  return Error::success();
}

/// Whether earlier answers lose their reasoning section.
Error Deriver::readReasoning(ChatFormat &format) const {
  const std::string end = "</think>";
  Messages m = conversation(false, 2);
  std::string mark = m[1].content;
  m[1].content = "<think>\nQuernReason\n" + end + "\n\n" + mark;
  Expected<std::string> text = render(m, true);
  if (!text)
    return text.takeError();
  if (text->find("QuernReason") != std::string::npos)
    return Error::success();
  format.reasoningEnd = end;
  Expected<std::string> plain = render(conversation(false, 2), true);
  if (!plain)
    return plain.takeError();
  if (*text == *plain)
    format.afterReasoning = ChatTrim::Newlines;
  return Error::success();
}

Error Deriver::derive(ChatFormat &format) {
  std::vector<std::string> parts;
  auto read = [&](bool system, unsigned users, bool endWithAnswer, bool answer,
                  std::vector<std::string> marks) -> Error {
    Expected<std::string> text = render(conversation(system, users, endWithAnswer), answer);
    if (!text)
      return text.takeError();
    return between(*text, marks, parts);
  };
  const std::string u0 = userMarks[0], u1 = userMarks[1], a0 = answerMarks[0], a1 = answerMarks[1];

  if (Error e = read(false, 2, false, true, {u0, a0, u1}))
    return e;
  format.open = parts[0];
  format.userToAssistant = parts[1];
  format.assistantToUser = parts[2];
  format.userToAnswer = parts[3];
  if (Error e = read(false, 2, false, false, {u0, a0, u1}))
    return e;
  format.userToEnd = parts[3];
  if (Error e = read(false, 2, true, false, {u0, a0, u1, a1}))
    return e;
  format.userToLastAssistant = parts[3];
  format.assistantToEnd = parts[4];

  // The system message: in front, inside the last user message, or refused.
  Expected<std::string> withSystem = render(conversation(true, 2), true);
  format.systemAllowed = bool(withSystem);
  if (!withSystem) {
    consumeError(withSystem.takeError());
  } else if (withSystem->find(systemMark) > withSystem->find(u0)) {
    format.systemInLastUser = true;
    if (Error e = between(*withSystem, {u0, a0, systemMark, u1}, parts))
      return e;
    if (!StringRef(parts[2]).starts_with(format.assistantToUser))
      return createStringError("the system message changes the text elsewhere");
    format.systemOpen = parts[2].substr(format.assistantToUser.size());
    format.systemToUser = parts[3];
  } else {
    if (Error e = between(*withSystem, {systemMark, u0, a0, u1}, parts))
      return e;
    format.systemOpen = parts[0];
    format.systemToUser = parts[1];
  }
  auto trim = [&](const Messages &m, size_t probed, bool answer, unsigned slot) {
    return readTrim(m, probed, answer, format.left[slot], format.right[slot]);
  };
  if (format.systemAllowed)
    if (Error e = trim(conversation(true, 1), 0, true, unsigned(ChatRole::System)))
      return e;
  if (Error e = trim(conversation(false, 2), 0, true, unsigned(ChatRole::User)))
    return e;
  if (Error e = trim(conversation(false, 2), 1, true, unsigned(ChatRole::Assistant)))
    return e;
  if (Error e = trim(conversation(false, 2, true), 3, false, 3))
    return e;
  if (Error e = readReasoning(format))
    return e;
  return verify(format);
}

/// Renders conversations the format was not read from both ways.
Error Deriver::verify(const ChatFormat &format) const {
  const char *const texts[] = {"Hello!",
                               "  padded\n",
                               "\n\nTwo\n\nlines\n",
                               "1 + 1 = 2",
                               "{{ x }}",
                               "na\xC3\xAFve \xF0\x9F\x98\x80",
                               "a",
                               "It's \"quoted\" \\ slashed"};
  unsigned next = 0;
  for (bool system : {false, true}) {
    if (system && !format.systemAllowed)
      continue;
    for (unsigned count = 1; count <= 7; ++count)
      for (bool answer : {true, false}) {
        if (answer && count % 2 == 0)
          continue;
        Messages m;
        if (system)
          m.push_back({ChatRole::System, texts[next++ % std::size(texts)]});
        for (unsigned i = 0; i < count; ++i)
          m.push_back(
              {i % 2 ? ChatRole::Assistant : ChatRole::User, texts[next++ % std::size(texts)]});
        Expected<std::string> expected = render(m, answer);
        if (!expected)
          return expected.takeError();
        std::vector<ChatPiece> pieces;
        std::string found, why;
        // Dates stay as they are: formatting the same moment twice would prove nothing.
        if (!format.render(m, answer, pieces, why, ChatFormat::keepDates))
          return createStringError(why);
        for (const ChatPiece &p : pieces)
          found += p.text;
        if (found != *expected)
          return createStringError("a message changes the text around other messages (" +
                                   std::to_string(count) + " messages" +
                                   (system ? " and a system message" : "") + ")");
      }
  }
  return Error::success();
}
} // namespace

ChatFormat chatFormat(StringRef source, StringRef bosToken, StringRef eosToken, uint64_t work) {
  ChatFormat format;
  Deriver deriver(bosToken, eosToken, work);
  Error e = deriver.prepare(source);
  if (!e)
    e = deriver.derive(format);
  if (e) {
    format = ChatFormat();
    format.problem = "the model's chat template cannot be expressed: " + toString(std::move(e));
  }
  return format;
}

Expected<std::string> renderChatTemplate(StringRef source, StringRef bosToken, StringRef eosToken,
                                         const std::vector<ChatMessage> &messages, bool answer,
                                         uint64_t work) {
  Deriver deriver(bosToken, eosToken, work);
  if (Error e = deriver.prepare(source))
    return std::move(e);
  return deriver.render(messages, answer);
}

namespace {
std::string tokenText(const json::Object *config, StringRef name) {
  const json::Value *v = config ? config->get(name) : nullptr;
  if (!v)
    return "";
  if (const json::Object *o = v->getAsObject())
    return o->getString("content").value_or("").str();
  return v->getAsString().value_or("").str();
}

/// tokenizer_config.json holds one template, or a list of named ones.
std::string templateText(const json::Value *v) {
  if (!v)
    return "";
  if (const json::Array *list = v->getAsArray())
    for (const json::Value &each : *list)
      if (const json::Object *o = each.getAsObject();
          o && o->getString("name") == StringRef("default"))
        return o->getString("template").value_or("").str();
  return v->getAsString().value_or("").str();
}
} // namespace

ChatFormat readChatFormat(const ModelFile &model) {
  std::string source, bos, eos;
  if (model.container == Container::GGUF) {
    source = templateText(model.metadata.get("tokenizer.chat_template"));
    const json::Array *tokens = model.metadata.getArray("tokenizer.ggml.tokens");
    auto text = [&](StringRef name) -> std::string {
      std::optional<int64_t> id = integerOf(model.metadata, name);
      if (!tokens || !id || *id < 0 || size_t(*id) >= tokens->size())
        return "";
      return (*tokens)[*id].getAsString().value_or("").str();
    };
    bos = text("tokenizer.ggml.bos_token_id");
    eos = text("tokenizer.ggml.eos_token_id");
  } else {
    source = templateText(model.metadata.get("chat_template"));
    const json::Object *config = model.metadata.getObject("tokenizer_config");
    if (source.empty() && config)
      source = templateText(config->get("chat_template"));
    bos = tokenText(config, "bos_token");
    eos = tokenText(config, "eos_token");
  }
  if (source.empty()) {
    ChatFormat none;
    none.problem = "the model has no chat template";
    return none;
  }
  return chatFormat(source, bos, eos);
}

} // namespace quern::import
