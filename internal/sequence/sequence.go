// SPDX-License-Identifier: Apache-2.0

// Package sequence compares lists.
package sequence

// Common returns the indexes of a longest common sequence of two lists, in order. If there are
// several, it leaves out an element of x before one of y. It takes time and memory in proportion
// to the product of their lengths, which the caller bounds.
func Common[T comparable](x, y []T) [][2]int {
	length := make([][]int32, len(x)+1) // of the sequence of x[i:] and y[j:]
	for i := range length {
		length[i] = make([]int32, len(y)+1)
	}
	for i := len(x) - 1; i >= 0; i-- {
		for j := len(y) - 1; j >= 0; j-- {
			if x[i] == y[j] {
				length[i][j] = length[i+1][j+1] + 1
			} else {
				length[i][j] = max(length[i+1][j], length[i][j+1])
			}
		}
	}
	var out [][2]int
	for i, j := 0, 0; i < len(x) && j < len(y); {
		switch {
		case x[i] == y[j]:
			out = append(out, [2]int{i, j})
			i, j = i+1, j+1
		case length[i+1][j] >= length[i][j+1]:
			i++
		default:
			j++
		}
	}
	return out
}
