// Does a few things at a time, of those that are still wanted when their turn comes.

export class Few {
  /** @param {number} most */
  constructor(most) {
    this.most = most;
    this.going = 0;
    /** @type {Map<object, () => Promise<void>>} */
    this.waiting = new Map();
  }

  /** Wants something done for `whom`, in the place of what was wanted for it before. @param {object} whom @param {() => Promise<void>} work */
  want(whom, work) {
    this.waiting.set(whom, work);
    this.begin();
  }

  /** Takes back what has not begun. @param {object} whom */
  drop(whom) {
    this.waiting.delete(whom);
  }

  begin() {
    for (const [whom, work] of this.waiting) {
      if (this.going >= this.most) return;
      this.waiting.delete(whom);
      this.going += 1;
      work().catch((fault) => console.warn(fault)).finally(() => {
        this.going -= 1;
        this.begin();
      });
    }
  }
}
