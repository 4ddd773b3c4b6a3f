//===- ChatTemplate.h - Chat templates at compile time ----------*- C++ -*-===//
//
// Turns a model's Jinja template into the text around messages: it is rendered on
// sample conversations, the text between messages read off, and the result
// checked against the template on other conversations.
//
//===----------------------------------------------------------------------===//
#ifndef QUERN_IMPORT_CHATTEMPLATE_H
#define QUERN_IMPORT_CHATTEMPLATE_H

#include "quern/Import/ModelFile.h"
#include "quern/Runtime/Chat.h"

namespace quern::import {

/// The chat format of a model. Never fails: what cannot be done is ChatFormat::problem, which a
/// program reports when someone wants to chat.
runtime::ChatFormat readChatFormat(const ModelFile &model);

/// Steps of the interpreter after which a template is refused, over all its renderings together; a
/// real one needs some thirty thousand.
inline constexpr uint64_t chatTemplateWork = 500000;

/// The same from a template's text and the special tokens it may name.
runtime::ChatFormat chatFormat(llvm::StringRef source, llvm::StringRef bosToken,
                               llvm::StringRef eosToken, uint64_t work = chatTemplateWork);

/// The messages of a conversation as data sets have them: {"messages": [{"role", "content"}, ...]}.
llvm::Expected<std::vector<runtime::ChatMessage>> readMessages(const llvm::json::Object &object);

/// One conversation as the template itself renders it; for tests and tools.
llvm::Expected<std::string> renderChatTemplate(llvm::StringRef source, llvm::StringRef bosToken,
                                               llvm::StringRef eosToken,
                                               const std::vector<runtime::ChatMessage> &messages,
                                               bool answer, uint64_t work = chatTemplateWork);

} // namespace quern::import

#endif // QUERN_IMPORT_CHATTEMPLATE_H
