// SPDX-License-Identifier: Apache-2.0

// Package document reads the documents that people write: pipelines, fleets and trust policies.
// Each is one YAML document whose form a JSON Schema defines, which editors use too.
// [Schema.Read] checks a document against its schema and decodes it. Mistakes are [Errors]: each has
// its line and column, and says what is wrong and what is wanted.
//
// A schema may have an errorMessage next to a keyword, as editors know it: it explains what the
// keyword cannot, such as a pattern.
package document
