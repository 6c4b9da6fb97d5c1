// Pointer, wheel and keys over the image, told to a viewer. All of it can be done by buttons and sliders too.

const GRIP = 22; // CSS pixels on either side of the divider that take hold of it
const STEP = 40; // CSS pixels that an arrow key moves

/** Listens; `viewer` has divide, moveBy, zoomBy, zoomTo, fit, dragWindow and readout. */
export function listenToStage(stage, viewer) {
  const pointers = new Map();
  let hold = null;

  stage.addEventListener("pointerdown", (event) => {
    if (event.button !== 0 && event.button !== 2) return;
    stage.setPointerCapture(event.pointerId);
    pointers.set(event.pointerId, place(event));
    hold = pointers.size > 1 ? "pinch" : holdOf(stage, viewer, event);
  });

  stage.addEventListener("pointermove", (event) => {
    const before = pointers.get(event.pointerId);
    const now = place(event);
    if (!before) {
      document.getElementById("readout").textContent = viewer.readout(fromMiddle(stage, now)) || "\u00a0";
      return;
    }
    const apart = spread(pointers);
    pointers.set(event.pointerId, now);
    const [dx, dy] = [now.x - before.x, now.y - before.y];
    if (hold === "divide") viewer.divide((now.x - stage.getBoundingClientRect().left) / stage.clientWidth);
    else if (hold === "window") viewer.dragWindow(dx, dy);
    else if (hold === "move") viewer.moveBy(dx, dy);
    else if (hold === "pinch" && apart) {
      viewer.moveBy(dx / 2, dy / 2);
      viewer.zoomBy(spread(pointers) / apart, fromMiddle(stage, centre(pointers)));
    }
  });

  for (const end of ["pointerup", "pointercancel"]) {
    stage.addEventListener(end, (event) => {
      pointers.delete(event.pointerId);
      hold = pointers.size === 1 ? "move" : null;
    });
  }

  stage.addEventListener("contextmenu", (event) => event.preventDefault()); // the right button sets the window
  stage.addEventListener("dblclick", (event) => viewer.zoomBy(2, fromMiddle(stage, place(event))));
  stage.addEventListener("keydown", (event) => {
    const action = KEYS[event.key];
    if (!action || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    action(viewer);
  });
  stage.addEventListener("wheel", (event) => {
    if (document.activeElement !== stage) return; // else it scrolls the page
    event.preventDefault();
    viewer.zoomBy(2 ** (-event.deltaY / 300), fromMiddle(stage, place(event)));
  }, { passive: false });
}

const KEYS = {
  ArrowLeft: (viewer) => viewer.moveBy(STEP, 0),
  ArrowRight: (viewer) => viewer.moveBy(-STEP, 0),
  ArrowUp: (viewer) => viewer.moveBy(0, STEP),
  ArrowDown: (viewer) => viewer.moveBy(0, -STEP),
  "+": (viewer) => viewer.zoomBy(1.5),
  "=": (viewer) => viewer.zoomBy(1.5),
  "-": (viewer) => viewer.zoomBy(1 / 1.5),
  0: (viewer) => viewer.fit(),
};

function holdOf(stage, viewer, event) {
  const x = event.clientX - stage.getBoundingClientRect().left;
  if (event.button === 2) return "window";
  if (Math.abs(x - viewer.split * stage.clientWidth) <= GRIP) return "divide";
  return document.querySelector("input[name=drag]:checked").value;
}

const place = (event) => ({ x: event.clientX, y: event.clientY });

function fromMiddle(stage, { x, y }) {
  const box = stage.getBoundingClientRect();
  return { x: x - box.left - box.width / 2, y: y - box.top - box.height / 2 };
}

/** How far two pointers are apart; 0 for one. */
function spread(pointers) {
  const [a, b] = [...pointers.values()];
  return b ? Math.hypot(a.x - b.x, a.y - b.y) : 0;
}

function centre(pointers) {
  const [a, b] = [...pointers.values()];
  return { x: (a.x + b.x) / 2, y: (a.y + b.y) / 2 };
}
