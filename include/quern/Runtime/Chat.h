//===- Chat.h - Conversations as a model expects them -----------*- C++ -*-===//
//
// What the compiler made of a model's chat template: the text around messages.
// The template language itself stays in the compiler.
//
//===----------------------------------------------------------------------===//
#ifndef QUERN_RUNTIME_CHAT_H
#define QUERN_RUNTIME_CHAT_H

#include <cstddef>
#include <cstdint>
#include <ctime>
#include <string>
#include <string_view>
#include <vector>

namespace quern::runtime {

enum class ChatRole : uint32_t { System, User, Assistant };

struct ChatMessage {
  ChatRole role;
  std::string content;
};

/// A run of a rendered conversation: markup comes from the template, the rest was typed or
/// generated. Tokenizer::encode finds special tokens in markup only.
struct ChatPiece {
  std::string text;
  bool markup = false;
};

/// What a template drops at either end of a message.
enum class ChatTrim : uint32_t { None, Newlines, WhiteSpace };

/// A conversation is: an optional system message, then user and assistant in turn, beginning with
/// the user. In text, `{{strftime FORMAT}}` stands for today's date.
struct ChatFormat {
  /// Why this model cannot chat (no template, or one that cannot be expressed); else empty.
  std::string problem;

  std::string open; ///< before the first user message when there is no system message
  bool systemAllowed = true;
  bool systemInLastUser = false; ///< the system message goes into the user message that ends the
                                 ///< conversation, and is left out if an answer ends it
  std::string systemOpen;        ///< before the system message
  std::string systemToUser;      ///< after it, up to the first (or the last) user message's text

  std::string userToAssistant; ///< between a user message and the answer to it
  std::string assistantToUser;
  std::string userToAnswer;        ///< after the last user message: asks the model to answer
  std::string userToEnd;           ///< after the last user message when no answer is asked for
  std::string userToLastAssistant; ///< as userToAssistant, before an answer that ends the text
  std::string assistantToEnd;

  /// By role; [3] is an answer that ends the text.
  ChatTrim left[4] = {}, right[4] = {};
  /// In an answer that does not end the text, everything up to the last of these is dropped (the
  /// end of a reasoning section); empty: nothing is.
  std::string reasoningEnd;
  ChatTrim afterReasoning = ChatTrim::None; ///< dropped from the start of what then remains

  static constexpr std::time_t keepDates = -1; ///< leaves `{{strftime FORMAT}}` in the text

  /// Renders a conversation; `answer`: the model is to answer next. False and a message in `error`
  /// if the conversation or the template does not allow it. `now` replaces dates.
  bool render(const std::vector<ChatMessage> &messages, bool answer, std::vector<ChatPiece> &out,
              std::string &error, std::time_t now) const;
  bool render(const std::vector<ChatMessage> &messages, bool answer, std::vector<ChatPiece> &out,
              std::string &error) const {
    return render(messages, answer, out, error, std::time(nullptr));
  }

  /// For the payload of a compiled program.
  std::vector<uint8_t> serialize() const;
  /// False if the bytes are damaged.
  bool parse(const uint8_t *data, size_t size);
};

} // namespace quern::runtime

#endif // QUERN_RUNTIME_CHAT_H
