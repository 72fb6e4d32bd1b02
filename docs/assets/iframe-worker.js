// Pages that are opened from disk may not start a worker, and the search is one: run it in a hidden
// frame of the same page instead. Elsewhere the browser's own workers stay.
if (location.protocol === "file:") {
  class FrameWorker extends EventTarget {
    constructor(url) {
      super()
      const frame = document.createElement("iframe")
      frame.hidden = true
      document.body.append(frame)
      const inside = (this.inside = frame.contentWindow)
      const load = (source) =>
        new Promise((resolve, reject) => {
          const script = inside.document.createElement("script")
          script.src = new URL(source, document.baseURI)
          script.onload = resolve
          script.onerror = reject
          inside.document.head.append(script)
        })
      // What a worker finds in its scope: here answers leave the frame instead of going round.
      inside.postMessage = (data) => {
        const event = new MessageEvent("message", { data })
        this.dispatchEvent(event)
        if (this.onmessage) this.onmessage(event)
      }
      inside.importScripts = (...sources) => Promise.all(sources.map(load))
      this.ready = load(url)
    }
    postMessage(data) {
      this.ready.then(() => {
        this.inside.dispatchEvent(new this.inside.MessageEvent("message", { data }))
      })
    }
    terminate() {
      this.inside.frameElement.remove()
    }
  }
  window.Worker = FrameWorker
  window.IFrameWorker = FrameWorker // the theme looks for one by this name
}
