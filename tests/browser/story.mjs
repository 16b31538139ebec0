// The story that the pictures tell, in a page that shows the chat application: run there by whatever drives the browser.
async (questions) => {
  const area = document.querySelector("#prompt");
  const sleep = (ms) => new Promise((done) => setTimeout(done, ms));
  while (!document.querySelector("#model option")) await sleep(20);
  for (const question of questions) {
    document.querySelector("#new").click();
    await sleep(100);
    area.value = question;
    area.dispatchEvent(new Event("input"));
    area.form.requestSubmit();
    do await sleep(50);
    while (document.querySelector("#stop").offsetParent);
  }
  const costs = document.querySelector("#costs");
  if (costs.ariaPressed !== "true") costs.click();
};
