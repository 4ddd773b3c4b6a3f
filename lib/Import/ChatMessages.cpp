//===- ChatMessages.cpp - Conversations out of JSON -----------------------===//
//
// See ChatTemplate.h.
//
//===----------------------------------------------------------------------===//
#include "quern/Import/ChatTemplate.h"

using namespace llvm;
using namespace quern::runtime;

Expected<std::vector<ChatMessage>> quern::import::readMessages(const json::Object &object) {
  const json::Array *list = object.getArray("messages");
  if (!list)
    return createStringError("expected an object with a list `messages`");
  std::vector<ChatMessage> messages;
  for (const json::Value &v : *list) {
    const json::Object *m = v.getAsObject();
    StringRef role = m ? m->getString("role").value_or("") : "";
    if (role != "system" && role != "user" && role != "assistant")
      return createStringError("a message's role must be system, user or assistant");
    messages.push_back({role == "system" ? ChatRole::System
                        : role == "user" ? ChatRole::User
                                         : ChatRole::Assistant,
                        m->getString("content").value_or("").str()});
  }
  return messages;
}
