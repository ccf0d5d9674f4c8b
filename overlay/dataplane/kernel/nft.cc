#include "overlay/dataplane/kernel/nft.h"

#include <nftables/libnftables.h>

namespace muster::overlay {

Result<std::unique_ptr<LibNft>> LibNft::make() {
  nft_ctx* context = nft_ctx_new(NFT_CTX_DEFAULT);
  if (context == nullptr) return fail(internal_error("cannot open nftables"));
  nft_ctx_buffer_error(context);
  nft_ctx_buffer_output(context);
  return std::unique_ptr<LibNft>(new LibNft(context));
}

LibNft::~LibNft() {
  nft_ctx_free(context_);
}

std::string LibNft::last_error() {
  const char* text = nft_ctx_get_error_buffer(context_);
  std::string line(text != nullptr ? text : "");
  // The second and third line repeat the command and point into it.
  if (const size_t end = line.find('\n'); end != std::string::npos) line.resize(end);
  return line;
}

Status LibNft::run(const std::string& commands) {
  nft_ctx_output_set_flags(context_, 0);
  if (nft_run_cmd_from_buffer(context_, commands.c_str()) == 0) {
    return ok_status();
  }
  const std::string why = last_error();
  const auto code =
      why.find("No such file") != std::string::npos ? StatusCode::kNotFound : StatusCode::kInternal;
  return Status(code, "nftables refused a change: " + why);
}

Result<std::string> LibNft::list(std::string_view family, std::string_view table) {
  nft_ctx_output_set_flags(context_, NFT_CTX_OUTPUT_JSON);
  const std::string command = fmt::format("list table {} {}", family, table);
  if (nft_run_cmd_from_buffer(context_, command.c_str()) != 0) {
    const std::string why = last_error();
    if (why.find("No such file") != std::string::npos) {
      return fail(not_found("nftables has no table {} {}", family, table));
    }
    return fail(internal_error("cannot list nftables: {}", why));
  }
  const char* output = nft_ctx_get_output_buffer(context_);
  return std::string(output != nullptr ? output : "");
}

}  // namespace muster::overlay
