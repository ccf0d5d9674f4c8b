#pragma once

#include <string>
#include <string_view>

#include "base/status.h"

namespace muster::overlay {

class LibNft;

// Whether a chain, map or set of this name is the caller's, with its rules: it comes and goes.
using PassingName = bool (*)(std::string_view name);

// A table whose chains and rules never change one by one: its commands make it anew as a whole, in
// one transaction. Elements of its named sets and maps are the caller's and come and go.
struct NftTable {
  std::string family;
  std::string name;
  std::string commands;
  PassingName passing = nullptr;  // null: none is
  // What comes and goes, and is there from the first moment of a table that is made anew: no packet
  // meets the rules without it. It is no part of what the table is.
  std::string contents{};
};

// A listing ("nft -j list table") reduced to what the rules are: without handles, counts, elements,
// the marker, and what comes and goes. Pure.
Result<std::string> table_essence(std::string_view listing, PassingName passing = nullptr);
// The name of an empty chain that tells what made the table, and what it looked like then.
std::string table_marker(std::string_view commands, std::string_view essence);
// Whether the listing is of a table as `commands` made it, with all its rules as they were.
bool table_is_as_made(std::string_view listing, std::string_view commands,
                      PassingName passing = nullptr);

// Makes the table where it is missing, of another version, or was changed by somebody else: also
// after a restart, since the table itself tells what it was. Returns its listing. Contents that the
// kernel refuses are left out.
struct KeptTable {
  std::string listing;
  bool made = false;  // now
};
Result<KeptTable> keep_table(LibNft& nft, const NftTable& table);
Status delete_table(LibNft& nft, std::string_view family, std::string_view name);

}  // namespace muster::overlay
