// HTML files that need nothing else: no script, no font, no network. Reports and explanations are made of
// these.
#pragma once

#include <string>
#include <string_view>

namespace qtf {

/// `text` with & < > " ' as entities and control characters but newline and tab left out.
std::string escape_html(std::string_view text);

/// From the doctype to inside <main>: title escaped, with `css` as its only style and a policy that lets the
/// page load nothing.
std::string html_page_start(std::string_view title, std::string_view css);

/// What ends the page.
inline constexpr std::string_view kHtmlPageEnd = "</main>\n</body>\n</html>\n";

}  // namespace qtf
