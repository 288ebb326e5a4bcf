#include "qtf/base/html.h"

#include <gtest/gtest.h>

namespace qtf {
namespace {

TEST(Html, EscapesText) {
  EXPECT_EQ(escape_html("<a href='x'>\"&\"\x01\n\t"), "&lt;a href=&#39;x&#39;&gt;&quot;&amp;&quot;\n\t");
}

TEST(Html, PagesLoadNothingAndEscapeTheirTitle) {
  const std::string page = html_page_start("a </title> b", "p { margin: 0; }\n");
  EXPECT_TRUE(page.starts_with("<!doctype html>\n"));
  EXPECT_NE(page.find("content=\"default-src 'none'; style-src 'unsafe-inline'\""), std::string::npos);
  EXPECT_NE(page.find("<title>a &lt;/title&gt; b</title>\n<style>\np { margin: 0; }\n</style>"),
            std::string::npos);
  EXPECT_TRUE(page.ends_with("<body>\n<main>\n"));
}

}  // namespace
}  // namespace qtf
