//===- Chat.cpp - Conversations as a model expects them -------------------===//
//
// Rendering by the text between messages, and the form kept in a payload.
//
//===----------------------------------------------------------------------===//
#include "quern/Runtime/Chat.h"
#include "TokenizerUnicode.h"
#include <cstring>

namespace quern::runtime {

namespace {
std::string_view trimmed(std::string_view text, ChatTrim left, ChatTrim right) {
  auto drops = [](uint32_t c, ChatTrim trim) {
    return trim == ChatTrim::Newlines ? c == '\n'
                                      : trim == ChatTrim::WhiteSpace &&
                                            (unicode::isWhiteSpace(c) || (c >= 0x1C && c <= 0x1F));
  };
  auto at = [&](size_t i, size_t &length) {
    length = unicode::characterLength(text.substr(i));
    return length ? unicode::decodeCharacter(text.data() + i, length) : 0xFFFFFFFF;
  };
  size_t length;
  while (!text.empty() && drops(at(0, length), left))
    text.remove_prefix(length);
  while (!text.empty()) {
    size_t begin = text.size() - 1;
    while (begin > 0 && text.size() - begin < 4 &&
           (static_cast<uint8_t>(text[begin]) & 0xC0) == 0x80)
      --begin;
    if (!drops(at(begin, length), right) || begin + length != text.size())
      break;
    text.remove_suffix(length);
  }
  return text;
}

/// Puts today's date where the template asked for it.
std::string withDate(const std::string &text, std::time_t now) {
  static const std::string open = "{{strftime ", close = "}}";
  if (now == ChatFormat::keepDates)
    return text;
  std::string out;
  size_t at = 0;
  for (size_t hit; (hit = text.find(open, at)) != std::string::npos;) {
    size_t end = text.find(close, hit);
    if (end == std::string::npos)
      break;
    std::string format = text.substr(hit + open.size(), end - hit - open.size());
    char date[256] = "";
    std::tm local = {};
    if (localtime_r(&now, &local) && format.size() < 128)
      date[std::strftime(date, sizeof date - 1, format.c_str(), &local)] = 0;
    out.append(text, at, hit - at).append(date);
    at = end + close.size();
  }
  return out.append(text, at);
}
} // namespace

bool ChatFormat::render(const std::vector<ChatMessage> &messages, bool answer,
                        std::vector<ChatPiece> &out, std::string &error, std::time_t now) const {
  out.clear();
  if (!problem.empty()) {
    error = problem;
    return false;
  }
  size_t first = !messages.empty() && messages[0].role == ChatRole::System ? 1 : 0;
  const ChatMessage *system = first ? &messages[0] : nullptr;
  if (system && !systemAllowed) {
    error = "the model's chat template has no place for a system message";
    return false;
  }
  if (messages.size() == first) {
    error = "a conversation needs a user message";
    return false;
  }
  size_t lastUser = 0;
  for (size_t i = first; i < messages.size(); ++i) {
    bool user = (i - first) % 2 == 0;
    if (messages[i].role != (user ? ChatRole::User : ChatRole::Assistant)) {
      error = "user and assistant must take turns, beginning with the user";
      return false;
    }
    if (user)
      lastUser = i;
  }
  bool endsWithUser = lastUser + 1 == messages.size();
  if (answer && !endsWithUser) {
    error = "the conversation does not end with a user message to answer";
    return false;
  }

  auto markup = [&](const std::string &text) {
    std::string dated = withDate(text, now);
    if (dated.empty())
      return;
    if (!out.empty() && out.back().markup)
      out.back().text += dated;
    else
      out.push_back({dated, true});
  };
  auto content = [&](const ChatMessage &m, bool last = false) {
    bool answered = m.role == ChatRole::Assistant;
    unsigned role = answered && last ? 3 : static_cast<unsigned>(m.role);
    std::string_view text = m.content;
    if (answered && !last && !reasoningEnd.empty())
      if (size_t hit = text.rfind(reasoningEnd); hit != std::string_view::npos)
        text = trimmed(text.substr(hit + reasoningEnd.size()), afterReasoning, ChatTrim::None);
    text = trimmed(text, left[role], right[role]);
    if (!text.empty())
      out.push_back({std::string(text), false});
  };
  auto systemText = [&] {
    markup(systemOpen);
    content(*system);
    markup(systemToUser);
  };

  if (system && !systemInLastUser)
    systemText();
  else
    markup(open);
  for (size_t i = first; i < messages.size(); ++i) {
    bool last = i + 1 == messages.size();
    if (system && systemInLastUser && last && i == lastUser)
      systemText();
    content(messages[i], last);
    if (messages[i].role == ChatRole::User)
      markup(last                       ? (answer ? userToAnswer : userToEnd)
             : i + 2 == messages.size() ? userToLastAssistant
                                        : userToAssistant);
    else
      markup(last ? assistantToEnd : assistantToUser);
  }
  return true;
}

namespace {
constexpr char magic[8] = {'Q', 'R', 'N', 'C', 'H', 'A', 'T', '1'};

/// All strings of a format, in the order they are written.
template <typename Format, typename F> void eachString(Format &f, const F &visit) {
  visit(f.problem);
  visit(f.open);
  visit(f.systemOpen);
  visit(f.systemToUser);
  visit(f.userToAssistant);
  visit(f.assistantToUser);
  visit(f.userToAnswer);
  visit(f.userToEnd);
  visit(f.userToLastAssistant);
  visit(f.assistantToEnd);
  visit(f.reasoningEnd);
}
} // namespace

std::vector<uint8_t> ChatFormat::serialize() const {
  std::vector<uint8_t> out(magic, magic + sizeof magic);
  auto number = [&](uint32_t v) {
    for (int i = 0; i < 4; ++i)
      out.push_back(static_cast<uint8_t>(v >> 8 * i));
  };
  number(systemAllowed);
  number(systemInLastUser);
  for (int i = 0; i < 4; ++i) {
    number(static_cast<uint32_t>(left[i]));
    number(static_cast<uint32_t>(right[i]));
  }
  number(static_cast<uint32_t>(afterReasoning));
  eachString(*this, [&](const std::string &s) {
    number(static_cast<uint32_t>(s.size()));
    out.insert(out.end(), s.begin(), s.end());
  });
  return out;
}

bool ChatFormat::parse(const uint8_t *data, size_t size) {
  size_t at = sizeof magic;
  bool ok = size >= at && memcmp(data, magic, at) == 0;
  auto number = [&]() -> uint32_t {
    if (!ok || size - at < 4) {
      ok = false;
      return 0;
    }
    uint32_t v = 0;
    for (int i = 0; i < 4; ++i)
      v |= static_cast<uint32_t>(data[at++]) << 8 * i;
    return v;
  };
  systemAllowed = number() != 0;
  systemInLastUser = number() != 0;
  auto trim = [&] {
    uint32_t v = number();
    ok &= v <= uint32_t(ChatTrim::WhiteSpace);
    return ok ? ChatTrim(v) : ChatTrim::None;
  };
  for (int i = 0; i < 4; ++i) {
    left[i] = trim();
    right[i] = trim();
  }
  afterReasoning = trim();
  eachString(*this, [&](std::string &s) {
    uint32_t n = number();
    ok &= n <= size - at;
    if (!ok)
      return;
    s.assign(reinterpret_cast<const char *>(data) + at, n);
    at += n;
  });
  return ok && at == size;
}

} // namespace quern::runtime
