/* SPDX-License-Identifier: MIT
 *
 * if (condition), as a loop of one turn at most. Software devices compute both sides of an `if`, with lanes masked, but leave a loop
 * that no lane enters: worth it around what is long and seldom needed.
 */
#define WHEN(condition) for (bool once = (condition); once; once = false)
