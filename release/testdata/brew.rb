# SPDX-License-Identifier: Apache-2.0
# Carries out a formula in the folder where its archive is unpacked, into prefix/, and
# prints which archive it takes: ruby brew.rb FORMULA SYSTEM CPU.
require "fileutils"
require "pathname"

formula, SYSTEM, CPU = ARGV

# A folder of a Homebrew prefix.
class Place < Pathname
  def install(what)
    mkpath
    sources = what.is_a?(Hash) ? what : Array(what).to_h { |file| [file, File.basename(file)] }
    raise "#{self}: nothing to install" if sources.empty?
    sources.each { |file, name| FileUtils.cp_r(file, self / name) }
  end

  def install_symlink(file)
    mkpath
    FileUtils.ln_s(file, self / File.basename(file))
  end
end

class Formula
  class << self
    attr_reader :chosen

    %i[desc homepage version license test].each { |word| define_method(word) { |*| nil } }
    { "macos" => SYSTEM, "linux" => SYSTEM, "intel" => CPU, "arm" => CPU }.each do |word, here|
      define_method("on_#{word}") { |&block| block.call if word == here }
    end
    %i[url sha256].each { |word| define_method(word) { |value| (@chosen ||= []) << value } }
  end

  %i[bin libexec bash_completion zsh_completion fish_completion man1].each do |name|
    define_method(name) { Place.new(File.join(Dir.pwd, "prefix", name.to_s)) }
  end
end

load formula
Tape.new.install
puts Tape.chosen
